import { expect, test } from "vitest";
import { actOf, due, next, type Manner, type Position } from "./playback";

function played(frames: number, manner: Manner, steps: number): number[] {
  let position: Position = { frame: 0, forward: true };
  return Array.from({ length: steps }, () => (position = next(position, frames, manner)).frame);
}

test("a loop begins again at the start", () => {
  expect(played(3, "loop", 6)).toEqual([1, 2, 0, 1, 2, 0]);
});

test("there and back shows each end once, as the films do", () => {
  expect(played(4, "back", 8)).toEqual([1, 2, 3, 2, 1, 0, 1, 2]);
});

test("two frames and one frame play without leaving the walk", () => {
  expect(played(2, "back", 4)).toEqual([1, 0, 1, 0]);
  expect(played(1, "back", 2)).toEqual([0, 0]);
});

test("a change to there and back at the last frame turns round", () => {
  expect(next({ frame: 3, forward: true }, 4, "back")).toEqual({ frame: 2, forward: false });
});

test("frames fall due by the clock, and what is left over is kept", () => {
  expect(due(100, 80, 1)).toEqual({ frames: 1, leftMs: 20 });
  expect(due(100, 80, 2)).toEqual({ frames: 2, leftMs: 20 });
  expect(due(100, 80, 0.5)).toEqual({ frames: 0, leftMs: 100 });
});

test("a tab that was away does not race to catch up", () => {
  expect(due(60_000, 80, 1)).toEqual({ frames: 1, leftMs: 0 });
});

test("keys move within the walk and leave others to the browser", () => {
  expect(actOf(" ", 3, 25)).toBe("play");
  expect(actOf("L", 3, 25)).toBe("manner");
  expect(actOf("ArrowRight", 24, 25)).toEqual({ to: 24 });
  expect(actOf("ArrowLeft", 0, 25)).toEqual({ to: 0 });
  expect(actOf("Home", 9, 25)).toEqual({ to: 0 });
  expect(actOf("End", 9, 25)).toEqual({ to: 24 });
  expect(actOf("Tab", 9, 25)).toBeNull();
});
