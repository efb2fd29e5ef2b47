import { expect, test } from "vitest";
import { fitted, isHeic, reducedSize } from "./readPicture";

test("a photo is made smaller only if it is over a limit of the API", () => {
  expect(reducedSize(20_000_000, 8000, 5000)).toBeNull();
  expect(reducedSize(20_000_001, 4000, 3000)).toEqual({ width: 2048, height: 1536 });
  expect(reducedSize(9_000_000, 6000, 8000)).toEqual({ width: 1536, height: 2048 });
});

test("a small picture is not made larger, and a narrow one keeps a pixel", () => {
  expect(fitted(100, 80, 1024)).toEqual({ width: 100, height: 80 });
  expect(fitted(1, 9000, 1024)).toEqual({ width: 1, height: 1024 });
});

test("a HEIC photo is recognised by its type or its name", () => {
  expect(isHeic({ name: "IMG_1.HEIC", type: "" })).toBe(true);
  expect(isHeic({ name: "blob", type: "image/heif" })).toBe(true);
  expect(isHeic({ name: "heic.jpg", type: "image/jpeg" })).toBe(false);
});
