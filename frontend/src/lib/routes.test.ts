import { expect, test } from "vitest";
import { isInternal, pageOf, walkPath } from "./routes";

const id = "66ec43256477540dc236522cabd07085";
const plain = { button: 0, metaKey: false, ctrlKey: false, shiftKey: false, altKey: false, defaultPrevented: false };
const link = (href: string, has: string[] = [], target = "") => ({
  href,
  target,
  hasAttribute: (name: string) => has.includes(name),
});
const origin = "https://gallery.example";

test("paths lead to their pages, with or without a trailing slash", () => {
  expect(pageOf("/")).toEqual({ name: "new" });
  expect(pageOf("/new/into")).toEqual({ name: "kind", kind: "into" });
  expect(pageOf("/new/apart/")).toEqual({ name: "kind", kind: "apart" });
  expect(pageOf("/gallery/")).toEqual({ name: "gallery" });
  expect(pageOf("/about")).toEqual({ name: "about" });
  expect(pageOf(walkPath(id))).toEqual({ name: "walk", id });
});

test("an unknown path is not found", () => {
  for (const path of ["/new", "/new/between", "/new/else", "/walks", "/walks/", "/walks/66EC", "/walks/../x", `/walks/${id}/more`, "/nowhere"]) {
    expect(pageOf(path)).toEqual({ name: "not-found" });
  }
});

test("a plain click on an internal link is handled", () => {
  expect(isInternal(plain, link(`${origin}/gallery?q=blue`), origin)).toBe(true);
});

test("other clicks and other links are left to the browser", () => {
  expect(isInternal({ ...plain, ctrlKey: true }, link(`${origin}/gallery`), origin)).toBe(false);
  expect(isInternal({ ...plain, button: 1 }, link(`${origin}/gallery`), origin)).toBe(false);
  expect(isInternal(plain, link(`${origin}/gallery`, [], "_blank"), origin)).toBe(false);
  expect(isInternal(plain, link(`${origin}/x`, ["download"]), origin)).toBe(false);
  expect(isInternal(plain, link(`${origin}/api/docs`), origin)).toBe(false);
  expect(isInternal(plain, link("https://elsewhere.example/"), origin)).toBe(false);
});
