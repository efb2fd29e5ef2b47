import { expect, test } from "vitest";
import { linkIn, partOf } from "./walkUrl";

test("the parts of a walk that a link has opened have its token, too", () => {
  expect(partOf("/api/v1/walks/5a", "frames/3.png")).toBe("/api/v1/walks/5a/frames/3.png");
  expect(partOf("/api/v1/walks/5a?link=t.k-n", "frames.zip")).toBe("/api/v1/walks/5a/frames.zip?link=t.k-n");
});

test("a link is read from the page's URL", () => {
  expect(linkIn("?link=t.k-n")).toBe("t.k-n");
  expect(linkIn("?q=link")).toBeUndefined();
});
