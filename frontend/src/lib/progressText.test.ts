import { expect, test } from "vitest";
import type { Walk } from "../api/client";
import { announcementOf, ordinal, progressOf, quarterOf, roughly } from "./progressText";

const range = (count: number) => Array.from({ length: count }, (_, index) => index);
const walk = (changes: Partial<Walk>, spacing = "uniform"): Walk =>
  ({
    state: "rendering",
    spec: { kind: "between", frames: 25, spacing },
    seed: 0,
    frames_ready: [],
    probes: [],
    queue_position: null,
    replicas_awake: 3,
    seconds_left: null,
    ...changes,
  }) as unknown as Walk;

test("ordinals are those of English", () => {
  expect([1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111].map(ordinal)).toEqual(
    ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th"],
  );
});

test("a walk in progress shows its frames, the replicas and the time left", () => {
  expect(progressOf(walk({ frames_ready: range(14), seconds_left: 6.2 }))).toBe("14 of 25 frames · 3 replicas · about 6 s left");
  expect(progressOf(walk({ frames_ready: range(14), replicas_awake: 1 }))).toBe("14 of 25 frames · 1 replica");
});

test("a waiting walk shows its position in the queue, or that a GPU is starting", () => {
  const starting = "Starting a GPU: this takes a few minutes";
  expect(progressOf(walk({ state: "waiting", queue_position: 4 }))).toBe("4th in the queue");
  expect(progressOf(walk({ state: "waiting", queue_position: 1 }))).toBe("Next in the queue");
  expect(progressOf(walk({ state: "waiting", queue_position: 4, replicas_awake: 0 }))).toBe(starting);
  expect(progressOf(walk({ frames_ready: range(3), replicas_awake: 0 }))).toBe(starting);
});

test("an even walk is improved once its first round is a whole walk, and before that it may choose its seed", () => {
  const probes = (count: number) => range(count).map((frame) => ({ frame, url: "" }));
  expect(progressOf(walk({ probes: probes(14), round: 1, rounds: 3 }, "even"))).toBe("14 of 25 frames · 3 replicas");
  expect(progressOf(walk({ probes: probes(25), round: 2, rounds: 3, seconds_left: 6 }, "even"))).toBe(
    "Improving the spacing: round 2 of 3 · 3 replicas · about 6 s left",
  );
  expect(progressOf(walk({ frames_ready: range(25), round: 3, rounds: 3 }, "even"))).toBe("25 of 25 frames · 3 replicas");
  expect(progressOf(walk({ state: "cancelled", probes: probes(25) }, "even"))).toBe("Cancelled after 25 of 25 frames");
  expect(progressOf(walk({ seed: null }, "even"))).toBe("Choosing the smoothest seed · 3 replicas");
  expect(progressOf(walk({}))).toBe("0 of 25 frames · 3 replicas");
});

test("every end is shown, also a failure", () => {
  expect(progressOf(walk({ state: "filming", frames_ready: range(25) }))).toBe("25 of 25 frames · Making the films");
  expect(progressOf(walk({ state: "done", frames_ready: range(25) }))).toBe("Done");
  expect(progressOf(walk({ state: "cancelled", frames_ready: range(2) }))).toBe("Cancelled after 2 of 25 frames");
  expect(progressOf(walk({ state: "failed" }))).toBe("Failed after 0 of 25 frames");
});

test("estimates are rough", () => {
  expect([0.2, 6.4, 99, 150].map(roughly)).toEqual(["a moment", "about 6 s", "about 99 s", "about 3 min"]);
});

test("a complete walk is announced five times: at 0, 25, 50, 75 and 100%", () => {
  const walks = [...range(26).map((count) => walk({ frames_ready: range(count) })), walk({ state: "done", frames_ready: range(25) })];
  expect([...new Set(walks.map(quarterOf))]).toEqual([0, 1, 2, 3, 4]);
  expect([...new Set(walks.map(announcementOf))].map((sentence) => sentence.split("%")[0])).toEqual(
    ["0", "25", "50", "75", "100"],
  );
});
