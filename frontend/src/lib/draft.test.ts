import { expect, test } from "vitest";
import type { BetweenSpec } from "../api/client";
import {
  continuePath, draftOf, draftProblems, editPath, emptyDraft, isBlank, isUploading, MAX_STOPS, otherSeed, pictureOf,
  repeatRequest, requestOf, reversed, seedProblem, shortest, stopOf, surprise, withModel, withoutStop, withStop,
  withUploaded, type ChosenPicture, type Draft,
} from "./draft";

/** A draft with prompts as its stops. */
const draft = ({ stops, ...changes }: Partial<Omit<Draft, "stops">> & { stops?: string[] }): Draft => ({
  ...emptyDraft(), ...changes, ...(stops && { stops: stops.map(stopOf) }),
});
const promptsOf = ({ stops }: Draft): string[] => stops.map((stop) => stop.prompt);

test("a stop is added before the last, up to eight, and two always remain", () => {
  let grown = draft({ stops: ["a", "b"] });
  for (let more = 0; more < 10; more++) grown = withStop(grown);
  expect(grown.stops).toHaveLength(MAX_STOPS);
  expect([promptsOf(grown)[0], promptsOf(grown).at(-1)]).toEqual(["a", "b"]);
  expect(promptsOf(withoutStop(draft({ stops: ["a", "x", "b"] }), 1))).toEqual(["a", "b"]);
  expect(promptsOf(withoutStop(draft({ stops: ["a", "b"] }), 0))).toEqual(["a", "b"]);
});

test("a reversed draft has its stops in the opposite order", () => {
  expect(promptsOf(reversed(draft({ stops: ["a", "b", "c"] })))).toEqual(["c", "b", "a"]);
});

test("a surprise is one of the examples, never the current one, with an automatic seed", () => {
  const examples = [["a", "b"], ["c", "d"]];
  for (const random of [0, 0.5, 0.999]) {
    expect(surprise(draft({ stops: ["a", "b"] }), examples, random)).toEqual(draft({ stops: ["c", "d"], seed: "auto" }));
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

const ID = "5a".repeat(32);
const CROP = { x: 10, y: 0, width: 512, height: 512 };
const pictured = (changes: Partial<ChosenPicture> = {}): Draft => ({
  ...emptyDraft(), stops: [{ prompt: " a\ncat ", picture: { ...pictureOf(ID, CROP), ...changes } }, stopOf("b")],
});

test("a picture is requested with its part and what it shows, and the walk is private", () => {
  expect(requestOf(pictured())).toEqual({
    stops: [{ picture: ID, prompt: "a cat", crop: CROP }, "b"], frames: 25, listed: false,
  });
  expect(requestOf(pictured({ crop: null })).stops?.[0]).toEqual({ picture: ID, prompt: "a cat" });
});

test("a stop with a picture needs no prompt, unless the picture cannot be used", () => {
  const unnamed = pictured();
  unnamed.stops = unnamed.stops.map((stop) => ({ ...stop, prompt: "" }));
  expect([...draftProblems(unnamed).keys()]).toEqual(["stops.1"]);
  expect(draftProblems(pictured({ problem: "It is gone." })).get("stops.0")).toBe("It is gone.");
  expect(isBlank(unnamed)).toBe(false);
});

test("strength is requested with pictures only", () => {
  const strong = { settings: { strength: 0.5, steps: 4 } };
  expect(requestOf({ ...pictured(), ...strong })).toMatchObject(strong.settings);
  expect(requestOf(draft({ stops: ["a", "b"], ...strong }))).not.toHaveProperty("strength");
});

test("a model that cannot use pictures is told at each of them", () => {
  expect([...draftProblems(pictured(), "It cannot.")]).toEqual([["stops.0", "It cannot."]]);
});

test("only a picture without an id and without a problem is being uploaded, and it is not kept", () => {
  expect([{}, { id: "" }, { id: "", problem: "Too large." }].map((changes) => isUploading(pictured(changes)))).toEqual([
    false, true, false,
  ]);
  expect(withUploaded(pictured())).toEqual(pictured());
  expect(withUploaded(pictured({ id: "" })).stops.map((stop) => stop.picture)).toEqual([null, null]);
});

test("pictures stay when a surprise replaces the prompts", () => {
  const surprised = surprise(pictured(), [["c", "d"]], 0);
  expect(surprised.stops).toEqual([pictured().stops[0], stopOf("d")]);
});

test("the pictures of a walk are kept for editing", () => {
  const stops = ["a", { picture: ID, prompt: "a cat", crop: CROP }];
  const edited = draftOf(editPath({ ...spec, stops }).slice(1));
  expect(edited.stops).toEqual([stopOf("a"), { prompt: "a cat", picture: pictureOf(ID, CROP) }]);
  expect(requestOf(edited).stops).toEqual(stops);
});

test("a URL brings only whole pictures, to stops that there are", () => {
  const of = (picture: string) => draftOf(`?stop=a&stop=b&picture=${picture}`).stops.map((stop) => stop.picture);
  expect(of(`0:${ID}`)).toEqual([pictureOf(ID), null]);
  expect(of(`0:${ID}:0,0,0,9`)).toEqual([pictureOf(ID), null]);
  for (const picture of [`7:${ID}`, ID, "0:5a", `0:${ID}:1,2`]) expect(of(picture)).toEqual([null, null]);
});

const spec = {
  stops: ["a", "b & c?d=#<e>"], frames: 37, seed: "auto", spacing: "uniform", negative_prompt: "", width: 64, height: 96, steps: 4,
  guidance_scale: 2.5, scheduler: "Euler", model: "atelier", revision: "1", frame_ms: 120, gif_there_and_back: false,
  mp4_there_and_back: true,
} as unknown as BetweenSpec;

test("a continued walk starts at the last stop, whatever characters its prompt holds, with the same seed and settings", () => {
  const continued = draftOf(continuePath({ spec, seed: 3, private: false }).slice(1));
  expect(promptsOf(continued)).toEqual(["b & c?d=#<e>", ""]);
  const { stops: _stops, revision: _revision, ...kept } = spec;
  expect(requestOf({ ...continued, stops: ["b & c?d=#<e>", "f"].map(stopOf) })).toEqual({
    ...kept, seed: 3, stops: ["b & c?d=#<e>", "f"], listed: true,
  });
});

test("the prompts and settings of a failed walk are kept for editing", () => {
  expect(requestOf(draftOf(editPath(spec).slice(1)))).toEqual({ ...repeatRequest({ spec, private: false }), listed: true });
});

test("a URL fills in only valid values", () => {
  expect(draftOf("?stop=a&stop=b&frames=49&seed=7&steps=4&model=sd15")).toEqual(
    draft({ stops: ["a", "b"], frames: 49, seed: "7", model: "sd15", settings: { steps: 4 } }),
  );
  const invalid = "?frames=1&seed=x&steps=many&width=&spacing=wide&gif_there_and_back=1&__proto__=5&guidance_scale=1e999";
  expect(draftOf(invalid)).toEqual(emptyDraft());
});

test("what was private is private again", () => {
  expect(repeatRequest({ spec, private: true }).listed).toBe(false);
  expect(draftOf(editPath(spec, true).slice(1)).listed).toBe(false);
  expect(draftOf(continuePath({ spec, seed: 3, private: true }).slice(1)).listed).toBe(false);
});

test("a repeated request leaves out what the model card decides", () => {
  const { revision: _revision, ...kept } = spec;
  expect(repeatRequest({ spec: { ...spec, guidance_interval: null, strength: null }, private: false })).toEqual(kept);
  expect(repeatRequest({ spec, private: false }, 9).seed).toBe(9);
  for (const random of [0, 0.25, 0.9999]) expect(otherSeed(otherSeed(null, random), random)).not.toBe(otherSeed(null, random));
});
