import { expect, test } from "vitest";
import type { WalkSpec } from "../api/client";
import { firstChanged, nearestFilled, slotsOf } from "./slots";

const spec = { frames: 5 } as WalkSpec;
const at = (ready: number[], probes: { frame: number; url: string }[] = []) => ({
  url: "/w",
  frames_ready: ready,
  probes,
  spec,
});

test("there is one slot per frame before any frame is ready", () => {
  expect(slotsOf(at([])).map((slot) => slot.kind)).toEqual(Array(5).fill("empty"));
});

test("frames fill their own slots, in any order", () => {
  const slots = slotsOf(at([1, 4]));
  expect(slots.map((slot) => slot.url)).toEqual([null, "/w/frames/1.png", null, null, "/w/frames/4.png"]);
});

test("a probe fills a slot until its frame is ready", () => {
  const probes = [{ frame: 2, url: "/w/probes/0/0/0.5.png" }];
  expect(slotsOf(at([], probes))[2]).toEqual({ frame: 2, kind: "probe", url: "/w/probes/0/0/0.5.png" });
  expect(slotsOf(at([2], probes))[2]).toEqual({ frame: 2, kind: "frame", url: "/w/frames/2.png" });
});

test("frames outside the walk fill no slot", () => {
  const slots = slotsOf(at([9, -1], [{ frame: 7, url: "/x" }]));
  expect(slots).toHaveLength(5);
  expect(slots.every((slot) => slot.kind === "empty")).toBe(true);
});

test("the nearest picture replaces a missing frame, the earlier of two", () => {
  const slots = slotsOf(at([0, 4]));
  expect(nearestFilled(slots, 1)?.frame).toBe(0);
  expect(nearestFilled(slots, 2)?.frame).toBe(0);
  expect(nearestFilled(slots, 3)?.frame).toBe(4);
  expect(nearestFilled(slotsOf(at([])), 3)).toBeNull();
});

test("a changed slot is one with another picture than before", () => {
  expect(firstChanged(slotsOf(at([0])), slotsOf(at([0, 3])))).toBe(3);
  expect(firstChanged([], slotsOf(at([2])))).toBe(2);
  expect(firstChanged(slotsOf(at([0])), slotsOf(at([0])))).toBeNull();
});
