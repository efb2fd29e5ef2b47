import { beforeEach, expect, test } from "vitest";
import { CropGesture } from "./cropGesture";

const box = { left: 100, top: 0, width: 200, height: 100 };
const stage = Object.assign(document.createElement("div"), {
  setPointerCapture: () => undefined,
  getBoundingClientRect: () => box as DOMRect,
});
let changes: number[][];
let gesture: CropGesture;
beforeEach(() => {
  changes = [];
  gesture = new CropGesture((...change) => changes.push(change));
});

function at(pointerId: number, clientX: number, clientY: number) {
  return { pointerId, clientX, clientY, currentTarget: stage };
}

test("a drag moves the picture along with the pointer", () => {
  gesture.begin(at(1, 200, 50));
  gesture.move(at(1, 220, 40));
  gesture.end(at(1, 220, 40));
  expect(changes).toEqual([[-0.1, 0.1, 1]]);
});

test("two fingers that part enlarge the picture around its middle", () => {
  gesture.begin(at(1, 190, 50));
  gesture.begin(at(2, 210, 50));
  gesture.move(at(1, 180, 50));
  gesture.move(at(2, 220, 50));
  expect(changes.map(([, , enlarged]) => enlarged)).toEqual([1.5, 40 / 30]);
  expect(changes.reduce((sum, [right = 0]) => sum + right, 0)).toBe(0);
});

test("a tap puts its point in the middle, and a pointer that only hovers changes nothing", () => {
  gesture.move(at(1, 300, 50));
  gesture.begin(at(1, 250, 25));
  gesture.end(at(1, 250, 25));
  expect(changes).toEqual([[0.25, -0.25, 1]]);
});
