import { expect, test } from "vitest";
import { afterKey, cropAt, cropText, maxZoom, moved, viewOf, WHOLE, within } from "./crop";

const PHOTO = { width: 1600, height: 1000 };
const SQUARE = 1;

test("at first the middle is shown, as large as the frame's shape allows", () => {
  expect(cropAt(WHOLE, PHOTO, SQUARE)).toEqual({ x: 300, y: 0, width: 1000, height: 1000 });
  expect(cropAt(WHOLE, PHOTO, 2)).toEqual({ x: 0, y: 100, width: 1600, height: 800 });
  expect(cropAt(WHOLE, { width: 1, height: 3000 }, 3)).toEqual({ x: 0, y: 1500, width: 1, height: 1 });
});

test("no move and no zoom leads out of the picture", () => {
  for (const ratio of [0.5, 1, 1.5]) {
    for (const size of [PHOTO, { width: 333, height: 2048 }, { width: 65, height: 65 }]) {
      let view = WHOLE;
      for (const key of ["+", "ArrowRight", "+", "+", "ArrowDown", "ArrowDown", "-", "ArrowLeft", "+", "ArrowUp"]) {
        for (let again = 0; again < 30; again++) view = afterKey(key, view, size, ratio) ?? view;
        const { x, y, width, height } = cropAt(view, size, ratio);
        expect([x, y, width, height].every(Number.isInteger)).toBe(true);
        expect(x >= 0 && y >= 0 && x + width <= size.width && y + height <= size.height).toBe(true);
        // The shape of the frame, as nearly as whole pixels allow.
        expect(Math.abs(width - height * ratio)).toBeLessThanOrEqual(Math.max(1, ratio));
      }
    }
  }
});

test("a crop is opened again as it was", () => {
  const crop = { x: 200, y: 50, width: 400, height: 400 };
  expect(cropAt(viewOf(crop, PHOTO, SQUARE), PHOTO, SQUARE)).toEqual(crop);
});

test("of a crop with another shape, its middle is shown", () => {
  const crop = { x: 200, y: 100, width: 600, height: 300 };
  expect(cropAt(viewOf(crop, PHOTO, SQUARE), PHOTO, SQUARE)).toEqual({ x: 350, y: 100, width: 300, height: 300 });
});

test("a move is a share of what is seen", () => {
  const near = within({ ...WHOLE, zoom: 2 }, PHOTO, SQUARE);
  expect(cropAt(moved(near, 0.5, -0.25, PHOTO, SQUARE), PHOTO, SQUARE)).toEqual({ x: 800, y: 125, width: 500, height: 500 });
});

test("a picture that is hardly larger than a frame cannot be enlarged, and other keys do nothing", () => {
  expect(maxZoom({ width: 70, height: 64 }, SQUARE)).toBe(1);
  expect(afterKey("Enter", WHOLE, PHOTO, SQUARE)).toBeNull();
});

test("a crop is told to those who cannot see it", () => {
  expect(cropText({ x: 400, y: 0, width: 800, height: 500 }, PHOTO)).toBe(
    "Shown: from 25% to 75% of the width, from 0% to 50% of the height.",
  );
});
