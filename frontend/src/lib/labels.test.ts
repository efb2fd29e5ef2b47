import { expect, test } from "vitest";
import type { WalkSpec } from "../api/client";
import { altOf, dayOf, factsOf, frameName, framesText, jumpsOf, sizeOf, smoothnessOf, titleOf } from "./labels";

const spec = { kind: "between" as const, stops: ["a <b>giraffe</b>", "a gold star", "a battleship"], frames: 25 };
const smoothness = { evenness: 0.9234, largest: 1.52, deviation: 0.01, sharpness: 1.3, jumps: [] };

test("a title names the first and the last stop, with prompts unchanged", () => {
  expect(titleOf(spec)).toBe("a <b>giraffe</b> to a battleship");
});

test("a prompt cannot change the direction of the text around it", () => {
  expect(titleOf({ kind: "between", stops: ["a\u202eb", "\u2067c"] })).toBe("ab to c");
});

test("long prompts get a smaller font size", () => {
  const sizes = [10, 80, 300].map((length) => sizeOf({ kind: "between", stops: ["x".repeat(length), "y".repeat(length)] }));
  expect(sizes).toEqual(["large", "middle", "small"]);
});

test("the text counts frames from one", () => {
  expect(frameName(8, 25)).toBe("Frame 9 of 25");
  expect(altOf(spec, 0)).toBe("Frame 1 of 25 of the walk from a <b>giraffe</b> to a gold star to a battleship");
});

test("a date is the day in the visitor's time zone", () => {
  expect(dayOf("2026-11-20T23:30:00Z", "UTC")).toBe("20 November 2026");
  expect(dayOf("2026-11-20T23:30:00Z", "Asia/Tokyo")).toBe("21 November 2026");
});

test("smoothness is shown in figures, and only if it was measured", () => {
  expect(smoothnessOf(smoothness)).toBe("evenness 0.92, largest step 1.5 ×, sharpness 1.30");
  expect(smoothnessOf(null)).toBe("");
  expect(smoothnessOf({ evenness: null, largest: null, deviation: 0, sharpness: null, jumps: [] })).toBe(
    "No motion",
  );
});

test("jumps name the frames at which they happen", () => {
  const jumps = (...frames: number[]) => ({ ...smoothness, jumps: frames.map((frame) => ({ frame, times: 4 })) });
  expect(jumpsOf(jumps())).toBe("");
  expect(jumpsOf(jumps(8))).toBe("at frame 9");
  expect(jumpsOf(jumps(3, 8, 20))).toBe("at frames 4, 9 and 21");
});

test("the effort is named if it is not the usual one", () => {
  expect(framesText({ frames: 25, spacing: "even", effort: "balanced" })).toBe("25, even spacing");
  expect(framesText({ frames: 25, spacing: "even", effort: "best" })).toBe("25, even spacing (best)");
  expect(framesText({ frames: 25, spacing: "uniform", effort: "balanced" })).toBe("25, uniform spacing");
});

test("walks of other kinds are named by what they do", () => {
  const titles = [
    { kind: "into" }, { kind: "apart" }, { kind: "restyle", style: "stained-glass" }, { kind: "restyle", prompt: "a knight" },
    { kind: "clip", style_picture: {} },
  ].map((other) => titleOf(other as WalkSpec));
  expect(titles).toEqual([
    "Into a picture", "A picture taken apart", "A picture as stained glass", "A picture as a knight", "A clip in the style of a picture",
  ]);
  expect(altOf({ kind: "into", frames: 49 } as WalkSpec, 0)).toBe("Frame 1 of 49: Into a picture");
});

test("facts name the seed only where there is noise", () => {
  const names = (spec: object) => factsOf({ spec: spec as WalkSpec, seed: null }).map(([name]) => name);
  expect(names({ kind: "between", stops: ["a", "b"], frames: 9, spacing: "even" })).toEqual(["Seed", "Frames"]);
  expect(names({ kind: "into", motion: "sway", amplitude: 1 })).toEqual(["Motion", "Frames"]);
  expect(names({ kind: "restyle", style: "ink" })).toEqual(["Frames"]);
  expect(names({ kind: "clip", prompt: "a", strength: 1 })).toEqual(["Seed", "Strength", "Frames"]);
});

test("facts have shares as the forms show them", () => {
  const first = (spec: object) => factsOf({ spec: spec as WalkSpec, seed: 3 })[0]?.[1];
  expect(first({ kind: "into", motion: "sway", amplitude: 0.55 })).toBe("sway, amplitude 55%");
  expect(first({ kind: "apart", most: 20, threshold: 0.5 })).toBe("at most 20, threshold 50%");
});
