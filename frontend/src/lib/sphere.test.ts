import { expect, test } from "vitest";
import { evenFractions, noise, path, point, project, slerp } from "./sphere";

const length = (of: readonly number[]) => Math.hypot(...of);

test("the arc starts and ends at its points and stays on the sphere", () => {
  const [a, b] = [point(4, -62), point(30, 66)];
  slerp(a, b, 0).forEach((at, axis) => expect(at).toBeCloseTo(a[axis] ?? NaN));
  slerp(a, b, 1).forEach((at, axis) => expect(at).toBeCloseTo(b[axis] ?? NaN));
  for (const fraction of [0.1, 0.5, 0.9]) expect(length(slerp(a, b, fraction))).toBeCloseTo(1);
  expect(slerp(a, a, 0.5)).toEqual(a);
});

test("seen from above, the top is on the near side and the bottom is not", () => {
  expect(project([0, 1, 0], 24).near).toBe(true);
  expect(project([0, -1, 0], 24).near).toBe(false);
  expect(project([0, 0, 1], 0)).toEqual({ at: [0, -0], near: true });
});

test("fractions run from 0 to 1 and are closest in the middle", () => {
  const fractions = evenFractions(9);
  const steps = fractions.slice(1).map((at, index) => at - (fractions[index] ?? 0));
  expect(fractions[0]).toBe(0);
  expect(fractions.at(-1)).toBeCloseTo(1);
  expect(Math.min(...steps)).toBeGreaterThan(0);
  expect(steps[3]).toBeLessThan((steps[0] ?? 0) / 2);
});

test("the noise of a seed is reproducible", () => {
  expect(noise(7, 9)).toEqual(noise(7, 9));
  expect(noise(7, 9)).not.toEqual(noise(8, 9));
  expect(noise(7, 99).every((grey) => grey >= 0 && grey < 1)).toBe(true);
});

test("a path starts with a move", () => {
  expect(path([[0, 0], [1.234, 5]])).toBe("M0.00 0.00L1.23 5.00");
});
