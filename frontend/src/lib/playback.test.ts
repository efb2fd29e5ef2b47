import { expect, test } from "vitest";
import { actionOf, framesDue, next, type PlaybackMode, type Position } from "./playback";

function played(frames: number, mode: PlaybackMode, steps: number): number[] {
  let position: Position = { frame: 0, forward: true };
  return Array.from({ length: steps }, () => (position = next(position, frames, mode)).frame);
}

test("a loop restarts at the first frame", () => {
  expect(played(3, "loop", 6)).toEqual([1, 2, 0, 1, 2, 0]);
});

test("there and back shows each end once, as the films do", () => {
  expect(played(4, "back", 8)).toEqual([1, 2, 3, 2, 1, 0, 1, 2]);
});

test("walks of two frames and of one frame stay within their frames", () => {
  expect(played(2, "back", 4)).toEqual([1, 0, 1, 0]);
  expect(played(1, "back", 2)).toEqual([0, 0]);
});

test("a change to there and back at the last frame turns round", () => {
  expect(next({ frame: 3, forward: true }, 4, "back")).toEqual({ frame: 2, forward: false });
});

test("frames are due by the clock, and the remainder is kept", () => {
  expect(framesDue(100, 80, 1)).toEqual({ frames: 1, leftMs: 20 });
  expect(framesDue(100, 80, 2)).toEqual({ frames: 2, leftMs: 20 });
  expect(framesDue(100, 80, 0.5)).toEqual({ frames: 0, leftMs: 100 });
});

test("a tab that was in the background does not skip ahead", () => {
  expect(framesDue(60_000, 80, 1)).toEqual({ frames: 1, leftMs: 0 });
});

test("keys stay within the walk and leave other keys to the browser", () => {
  expect(actionOf(" ", 3, 25)).toBe("play");
  expect(actionOf("L", 3, 25)).toBe("mode");
  expect(actionOf("ArrowRight", 24, 25)).toEqual({ to: 24 });
  expect(actionOf("ArrowLeft", 0, 25)).toEqual({ to: 0 });
  expect(actionOf("Home", 9, 25)).toEqual({ to: 0 });
  expect(actionOf("End", 9, 25)).toEqual({ to: 24 });
  expect(actionOf("Tab", 9, 25)).toBeNull();
});
