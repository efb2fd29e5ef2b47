import { expect, test } from "vitest";
import { isOurs, pageOf, walkPath } from "./routes";

const id = "66ec43256477540dc236522cabd07085";
const plain = { button: 0, metaKey: false, ctrlKey: false, shiftKey: false, altKey: false, defaultPrevented: false };
const link = (href: string, has: string[] = [], target = "") => ({
  href,
  target,
  hasAttribute: (name: string) => has.includes(name),
});
const origin = "https://wall.example";

test("addresses lead to their pages, with or without a last slash", () => {
  expect(pageOf("/")).toEqual({ name: "new" });
  expect(pageOf("/gallery/")).toEqual({ name: "gallery" });
  expect(pageOf("/about")).toEqual({ name: "about" });
  expect(pageOf(walkPath(id))).toEqual({ name: "walk", id });
});

test("what no page has is missing", () => {
  for (const path of ["/walks", "/walks/", "/walks/66EC", "/walks/../x", `/walks/${id}/more`, "/nowhere"]) {
    expect(pageOf(path)).toEqual({ name: "missing" });
  }
});

test("a plain click on a page of ours is ours", () => {
  expect(isOurs(plain, link(`${origin}/gallery?q=blue`), origin)).toBe(true);
});

test("whatever the visitor wants the browser to do stays the browser's", () => {
  expect(isOurs({ ...plain, ctrlKey: true }, link(`${origin}/gallery`), origin)).toBe(false);
  expect(isOurs({ ...plain, button: 1 }, link(`${origin}/gallery`), origin)).toBe(false);
  expect(isOurs(plain, link(`${origin}/gallery`, [], "_blank"), origin)).toBe(false);
  expect(isOurs(plain, link(`${origin}/x`, ["download"]), origin)).toBe(false);
  expect(isOurs(plain, link(`${origin}/api/docs`), origin)).toBe(false);
  expect(isOurs(plain, link("https://elsewhere.example/"), origin)).toBe(false);
});
