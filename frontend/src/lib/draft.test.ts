import { expect, test } from "vitest";
import type { WalkSpec } from "../api/client";
import {
  continuePath, draftOf, draftProblems, editPath, emptyDraft, isBlank, MAX_STOPS, otherSeed, repeatRequest, requestOf, reversed, seedProblem, shortest,
  surprise, withModel, withoutStop, withStop, type Draft,
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

test("a chosen model is requested, and replaces another one in the URL", () => {
  expect(requestOf(draft({ stops: ["a", "b"], model: "sd15" })).model).toBe("sd15");
  expect(withModel("?stop=a&model=x&steps=4", "sd15")).toBe("stop=a&model=sd15&steps=4");
});

test("seeds are whole 32-bit numbers, or auto", () => {
  expect(["", "0", "4294967295", "auto"].map(seedProblem)).toEqual(["", "", "", ""]);
  for (const seed of ["-1", "1.5", "4294967296", "x", "1e3", "99999999999"]) expect(seedProblem(seed)).not.toBe("");
});

test("each empty stop and an invalid seed are reported by their names in the API", () => {
  expect([...draftProblems(draft({ stops: ["a", " ", ""] })).keys()]).toEqual(["stops.1", "stops.2"]);
  expect([...draftProblems(draft({ stops: ["a", "b"], seed: "x" })).keys()]).toEqual(["seed"]);
  expect(isBlank(draft({ stops: ["", " "] }))).toBe(true);
  expect(isBlank(draft({ stops: ["", "", ""] }))).toBe(false);
});

const spec = {
  stops: ["a", "b & c?d=#<e>"], frames: 37, seed: "auto", spacing: "uniform", negative_prompt: "", width: 64, height: 96, steps: 4,
  guidance_scale: 2.5, scheduler: "Euler", model: "atelier", revision: "1", frame_ms: 120, gif_there_and_back: false,
  mp4_there_and_back: true,
} as unknown as WalkSpec;

test("a continued walk starts at the last stop, whatever characters its prompt holds, with the same seed and settings", () => {
  const continued = draftOf(continuePath({ spec, seed: 3 }).slice(1));
  expect(continued.stops).toEqual(["b & c?d=#<e>", ""]);
  const { stops: _stops, revision: _revision, ...kept } = spec;
  expect(requestOf({ ...continued, stops: ["b & c?d=#<e>", "f"] })).toEqual({
    ...kept, seed: 3, stops: ["b & c?d=#<e>", "f"], listed: true,
  });
});

test("the prompts and settings of a failed walk are kept for editing", () => {
  expect(requestOf(draftOf(editPath(spec).slice(1)))).toEqual({ ...repeatRequest(spec), listed: true });
});

test("a URL fills in only valid values", () => {
  expect(draftOf("?stop=a&stop=b&frames=49&seed=7&steps=4&model=sd15")).toEqual({
    stops: ["a", "b"], frames: 49, seed: "7", listed: true, model: "sd15", settings: { steps: 4 },
  });
  const invalid = "?frames=1&seed=x&steps=many&width=&spacing=wide&gif_there_and_back=1&__proto__=5&guidance_scale=1e999";
  expect(draftOf(invalid)).toEqual(emptyDraft());
});

test("a repeated request leaves out what the model card decides", () => {
  const { revision: _revision, ...kept } = spec;
  expect(repeatRequest({ ...spec, guidance_interval: null })).toEqual(kept);
  expect(repeatRequest(spec, 9).seed).toBe(9);
  for (const random of [0, 0.25, 0.9999]) expect(otherSeed(otherSeed(null, random), random)).not.toBe(otherSeed(null, random));
});
