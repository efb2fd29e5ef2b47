import { expect, test } from "vitest";
import type { ModelCard } from "../api/client";
import { allowedBy, changesOf, defaultsOf, numberOf, settingParameters, settingsIn, withChanges } from "./settings";

const card = {
  width: 128, height: 128, min_size: 64, max_size: 256, size_multiple: 32, num_inference_steps: 12, max_steps: 100,
  guidance_scale: 4, negative_prompt: "", scheduler: "UniPC", schedulers: ["UniPC", "Euler"],
} as unknown as ModelCard;
const defaults = defaultsOf(card, "balanced");

test("settings survive the trip through a URL", () => {
  const settings = { width: 64, guidance_scale: 0, negative_prompt: "a & b", spacing: "ease", gif_there_and_back: false } as const;
  expect(settingsIn(settingParameters(settings))).toEqual(settings);
});

test("a setting counts as changed only if it differs from the default", () => {
  expect(changesOf({}, defaults)).toEqual([]);
  expect(changesOf({ ...defaults }, defaults)).toEqual([]);
  expect(changesOf({ ...defaults, steps: 4, mp4_there_and_back: true }, defaults)).toEqual(["steps", "mp4_there_and_back"]);
});

test("the effort of a walk that is not even is no change", () => {
  expect(changesOf({ effort: "best", spacing: "even" }, defaults)).toEqual(["effort"]);
  expect(changesOf({ effort: "best", spacing: "uniform" }, defaults)).toEqual(["spacing"]);
});

test("a setting that gets its default is forgotten", () => {
  expect(withChanges({ steps: 4, width: 64 }, { steps: 12 }, defaults)).toEqual({ width: 64 });
  expect(withChanges({ steps: 4 }, { steps: undefined }, defaults)).toEqual({});
  expect(withChanges({}, { guidance_scale: 0 }, defaults)).toEqual({ guidance_scale: 0 });
});

test("what a model does not allow is dropped", () => {
  const allowed = { width: 64, height: 256, steps: 100, scheduler: "Euler", guidance_scale: 9, frame_ms: 40 };
  expect(allowedBy(card, allowed)).toEqual(allowed);
  expect(allowedBy(card, { width: 32, height: 288, steps: 101, scheduler: "DDIM", frame_ms: 40 })).toEqual({ frame_ms: 40 });
  expect(allowedBy(card, { width: 80, steps: 1.5 })).toEqual({});
});

test("without a card, only the defaults of all models are known", () => {
  expect(defaultsOf(undefined, "best")).toMatchObject({ spacing: "even", effort: "best", frame_ms: 80 });
  expect(defaultsOf(undefined, "best").width).toBeUndefined();
});

test("an empty number is no number", () => {
  expect(["", " ", "x", "7", "0.5"].map(numberOf)).toEqual([undefined, undefined, undefined, 7, 0.5]);
});
