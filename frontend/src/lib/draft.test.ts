import { expect, test } from "vitest";
import type { WalkSpec } from "../api/client";
import {
  continuePath, draftOf, editPath, emptyDraft, isBlank, MAX_STOPS, otherSeed, repeatRequest, requestOf, reversed, seedProblem, shortest,
  stopProblems, surprise, withoutStop, withStop, type Draft,
} from "./draft";

const draft = (changes: Partial<Draft>): Draft => ({ ...emptyDraft(), ...changes });

test("a stop is added before the last, up to eight, and two always remain", () => {
  let grown = draft({ stops: ["a", "b"] });
  for (let more = 0; more < 10; more++) grown = withStop(grown);
  expect(grown.stops).toHaveLength(MAX_STOPS);
  expect([grown.stops[0], grown.stops.at(-1)]).toEqual(["a", "b"]);
  expect(withoutStop(draft({ stops: ["a", "x", "b"] }), 1).stops).toEqual(["a", "b"]);
  expect(withoutStop(draft({ stops: ["a", "b"] }), 0).stops).toEqual(["a", "b"]);
});

test("a reversed draft has its stops in the opposite order", () => {
  expect(reversed(draft({ stops: ["a", "b", "c"] })).stops).toEqual(["c", "b", "a"]);
});

test("a surprise is one of the examples, never the current one, with an automatic seed", () => {
  const examples = [["a", "b"], ["c", "d"]];
  for (const random of [0, 0.5, 0.999]) {
    expect(surprise(draft({ stops: ["a", "b"] }), examples, random)).toMatchObject({ stops: ["c", "d"], seed: "auto" });
  }
  expect(surprise(draft({}), [], 0)).toEqual(draft({}));
});

test("the example with the shortest prompts is shown", () => {
  expect(shortest([["aaaa", "b"], ["aa", "bb"], ["a", "bbb"]])).toEqual(["aa", "bb"]);
  expect(shortest([])).toBeUndefined();
});

test("a request has no line breaks, and a seed only if one was entered", () => {
  expect(requestOf(draft({ stops: [" a\n giraffe ", "b"] }))).toEqual({ stops: ["a giraffe", "b"], frames: 25, listed: true });
  expect(requestOf(draft({ seed: " 7 " })).seed).toBe(7);
  expect(requestOf(draft({ seed: "auto" })).seed).toBe("auto");
});

test("seeds are whole 32-bit numbers, or auto", () => {
  expect(["", "0", "4294967295", "auto"].map(seedProblem)).toEqual(["", "", "", ""]);
  for (const seed of ["-1", "1.5", "4294967296", "x", "1e3", "99999999999"]) expect(seedProblem(seed)).not.toBe("");
});

test("each empty stop is reported", () => {
  expect([...stopProblems(draft({ stops: ["a", " ", ""] })).keys()]).toEqual([1, 2]);
  expect(isBlank(draft({ stops: ["", " "] }))).toBe(true);
  expect(isBlank(draft({ stops: ["", "", ""] }))).toBe(false);
});

test("a continued walk starts at the last stop, whatever characters its prompt holds", () => {
  const path = continuePath({ stops: ["a", "b & c?d=#<e>"] });
  expect(draftOf(path.slice(1)).stops).toEqual(["b & c?d=#<e>", ""]);
});

test("the prompts of a failed walk are kept for editing", () => {
  const spec = { stops: ["a", "b & c", "d"], frames: 49, seed: "auto" as const };
  expect(draftOf(editPath(spec).slice(1))).toMatchObject(spec);
});

test("a URL fills in only valid values", () => {
  expect(draftOf("?stop=a&stop=b&frames=49&seed=7")).toEqual({ stops: ["a", "b"], frames: 49, seed: "7", listed: true });
  expect(draftOf("?frames=26&seed=x")).toEqual(emptyDraft());
});

test("a repeated request leaves out what the model card decides", () => {
  const spec = { stops: ["a", "b"], frames: 25, seed: 3, model: "atelier", revision: "1", steps: 12 } as unknown as WalkSpec;
  expect(repeatRequest(spec)).toEqual({ stops: ["a", "b"], frames: 25, seed: 3, steps: 12 });
  expect(repeatRequest(spec, 9).seed).toBe(9);
  for (const random of [0, 0.25, 0.9999]) expect(otherSeed(otherSeed(null, random), random)).not.toBe(otherSeed(null, random));
});
