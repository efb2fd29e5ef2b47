import { expect, test } from "vitest";
import type { WalkSpec } from "../api/client";
import {
  again, draftOf, editPath, emptyDraft, goOnPath, isBlank, MOST_STOPS, otherSeed, seedProblem, shortest, stopProblems, surprise, swapped,
  wishOf, withoutStop, withStop, type Draft,
} from "./draft";

const draft = (changes: Partial<Draft>): Draft => ({ ...emptyDraft(), ...changes });

test("a stop is added before the last, up to eight, and two always stay", () => {
  let grown = draft({ stops: ["a", "b"] });
  for (let more = 0; more < 10; more++) grown = withStop(grown);
  expect(grown.stops).toHaveLength(MOST_STOPS);
  expect([grown.stops[0], grown.stops.at(-1)]).toEqual(["a", "b"]);
  expect(withoutStop(draft({ stops: ["a", "x", "b"] }), 1).stops).toEqual(["a", "b"]);
  expect(withoutStop(draft({ stops: ["a", "b"] }), 0).stops).toEqual(["a", "b"]);
});

test("a swap walks the same way back", () => {
  expect(swapped(draft({ stops: ["a", "b", "c"] })).stops).toEqual(["c", "b", "a"]);
});

test("a surprise is one of the examples, never what stands there, and looks for its seed", () => {
  const examples = [["a", "b"], ["c", "d"]];
  for (const chance of [0, 0.5, 0.999]) {
    expect(surprise(draft({ stops: ["a", "b"] }), examples, chance)).toMatchObject({ stops: ["c", "d"], seed: "auto" });
  }
  expect(surprise(draft({}), [], 0)).toEqual(draft({}));
});

test("the example with the shortest prompts is shown", () => {
  expect(shortest([["aaaa", "b"], ["aa", "bb"], ["a", "bbb"]])).toEqual(["aa", "bb"]);
  expect(shortest([])).toBeUndefined();
});

test("what is asked has no line breaks, and a seed only where one was named", () => {
  expect(wishOf(draft({ stops: [" a\n giraffe ", "b"] }))).toEqual({ stops: ["a giraffe", "b"], frames: 25, listed: true });
  expect(wishOf(draft({ seed: " 7 " })).seed).toBe(7);
  expect(wishOf(draft({ seed: "auto" })).seed).toBe("auto");
});

test("seeds are whole numbers that fit, or auto", () => {
  expect(["", "0", "4294967295", "auto"].map(seedProblem)).toEqual(["", "", "", ""]);
  for (const seed of ["-1", "1.5", "4294967296", "x", "1e3", "99999999999"]) expect(seedProblem(seed)).not.toBe("");
});

test("empty stops are named one by one", () => {
  expect([...stopProblems(draft({ stops: ["a", " ", ""] })).keys()]).toEqual([1, 2]);
  expect(isBlank(draft({ stops: ["", " "] }))).toBe(true);
  expect(isBlank(draft({ stops: ["", "", ""] }))).toBe(false);
});

test("walking on begins where the walk ended, whatever its prompt holds", () => {
  const path = goOnPath({ stops: ["a", "b & c?d=#<e>"] });
  expect(draftOf(path.slice(1)).stops).toEqual(["b & c?d=#<e>", ""]);
});

test("the prompts of a walk that failed are kept, to be changed", () => {
  const spec = { stops: ["a", "b & c", "d"], frames: 49, seed: "auto" as const };
  expect(draftOf(editPath(spec).slice(1))).toMatchObject(spec);
});

test("an address fills in what fits", () => {
  expect(draftOf("?stop=a&stop=b&frames=49&seed=7")).toEqual({ stops: ["a", "b"], frames: 49, seed: "7", listed: true });
  expect(draftOf("?frames=26&seed=x")).toEqual(emptyDraft());
});

test("the same walk again is asked for without what the card decides", () => {
  const spec = { stops: ["a", "b"], frames: 25, seed: 3, model: "atelier", revision: "1", steps: 12 } as unknown as WalkSpec;
  expect(again(spec)).toEqual({ stops: ["a", "b"], frames: 25, seed: 3, steps: 12 });
  expect(again(spec, 9).seed).toBe(9);
  for (const chance of [0, 0.25, 0.9999]) expect(otherSeed(otherSeed(null, chance), chance)).not.toBe(otherSeed(null, chance));
});
