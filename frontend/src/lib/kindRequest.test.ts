import { expect, test } from "vitest";
import type { Model, OtherSpec } from "../api/client";
import { pictureOf } from "./draft";
import { kindDraftOf, type KindDraft } from "./kindDraft";
import { kindPath, kindRepeat, kindRequest } from "./kindRequest";
import { choicesOf, styleIn, stylesOf, waysOf } from "./kindStyles";

const ID = "5a".repeat(32);
const picture = { ...pictureOf(ID), width: 400, height: 300 };
const draft = (changes: Partial<KindDraft>): KindDraft => ({ ...kindDraftOf(""), ...changes });
const model = (name: string, engine: string, kinds: string[], styles: string[] = []): Model =>
  ({ name, engine, kinds, styles: styles.map((style) => ({ name: style, title: style })) }) as unknown as Model;
const MODELS = [
  model("atelier", "diffusion", ["between", "restyle"], ["anime"]),
  model("depth", "parallax", ["into"]),
  model("styles", "style", ["restyle", "clip"], ["woodcut", "anime"]),
];

test("a picture alone makes a walk: everything else has its default", () => {
  expect(kindRequest("into", draft({ picture }), MODELS)).toEqual({
    kind: "into", listed: false, picture: { picture: ID }, motion: "sway", amplitude: 0.5,
  });
  expect(kindRequest("restyle", draft({ picture }), MODELS)).toEqual({
    kind: "restyle", listed: false, picture: { picture: ID }, style: "woodcut", model: "styles",
  });
  expect(kindRequest("clip", draft({ clip: { id: ID } }), MODELS)).toEqual({
    kind: "clip", listed: false, clip: ID, style: "woodcut", model: "styles",
  });
  expect(kindRequest("apart", draft({ picture }), MODELS)).toMatchObject({ threshold: 0.5, most: 20 });
});

test("another shape than the picture's own crops it, and a chosen part stays", () => {
  const expectPicture = (changes: Partial<KindDraft>, expected: object) => {
    expect(kindRequest("apart", draft({ picture, ...changes }), MODELS)).toMatchObject({ picture: expected });
  };
  expectPicture({ shape: "square" }, { picture: ID, crop: { x: 50, y: 0, width: 300, height: 300 } });
  const crop = { x: 10, y: 20, width: 200, height: 150 };
  expectPicture({ picture: { ...picture, crop } }, { picture: ID, crop });
  // Its size is not known yet: the API checks the part.
  expectPicture({ picture: pictureOf(ID, crop) }, { picture: ID, crop });
});

test("a request has one way to a style", () => {
  const of = (changes: Partial<KindDraft>) => kindRequest("restyle", draft({ picture, style: "woodcut", ...changes }), MODELS);
  expect(of({})).toMatchObject({ style: "woodcut", model: "styles" });
  const byPrompt = of({ way: "prompt", prompt: " a \n knight ", strength: 0.4 });
  expect(byPrompt).toMatchObject({ prompt: "a knight", strength: 0.4 });
  expect(byPrompt).not.toHaveProperty("style");
  expect(of({ way: "picture", stylePicture: pictureOf(ID) })).toMatchObject({ style_picture: { picture: ID } });
});

test("styles of nets that are made for them come first", () => {
  expect(stylesOf("restyle", MODELS).map(({ model: name, style }) => `${name} ${style.name}`)).toEqual([
    "styles woodcut", "styles anime", "atelier anime",
  ]);
});

test("a style is looked for by its model, then by its name, then the first one is taken", () => {
  const offered = stylesOf("restyle", MODELS);
  const found = (style: string, wanted: string) => styleIn(draft({ style, model: wanted }), offered);
  expect(found("anime", "styles")?.model).toBe("styles");
  expect(found("anime", "atelier")?.model).toBe("atelier");
  expect(found("anime", "gone")?.model).toBe("styles");
  expect(found("gone", "atelier")).toBe(offered[0]);
});

test("the ways to a style are those of the models that have the kind", () => {
  expect(waysOf("restyle", MODELS)).toEqual(["style", "prompt", "picture"]);
  expect(waysOf("clip", MODELS)).toEqual(["style", "picture"]);
  expect(waysOf("clip", MODELS.slice(0, 2))).toEqual([]);
  expect(choicesOf("restyle", draft({ way: "prompt" }), MODELS).map(({ name }) => name)).toEqual(["atelier"]);
  expect(choicesOf("restyle", draft({}), MODELS)).toEqual([]);
  expect(choicesOf("into", draft({}), MODELS).map(({ name }) => name)).toEqual(["depth"]);
});

const common = {
  width: 96, height: 128, frames: 13, frame_ms: 80, model: "m", revision: "1", gif_there_and_back: false, mp4_there_and_back: false,
};
const cropped = { picture: ID, crop: { x: 0, y: 0, width: 30, height: 40 } };
const none = { prompt: null, negative_prompt: null, strength: null, seed: null, steps: null, guidance_scale: null, scheduler: null };
const SPECS = [
  { ...common, kind: "into", picture: cropped, motion: "dolly", amplitude: 0.3 },
  { ...common, kind: "apart", picture: cropped, threshold: 0.3, most: 4 },
  { ...common, ...none, kind: "restyle", picture: cropped, style: "woodcut", style_picture: null },
  { ...common, ...none, kind: "clip", clip: ID, every: 2, style: null, style_picture: cropped },
  {
    ...common, kind: "restyle", picture: cropped, style: null, style_picture: null, prompt: "a knight", negative_prompt: "",
    strength: 0.4, seed: 3, steps: 4, guidance_scale: 1, scheduler: "Euler",
  },
] as OtherSpec[];

test("a walk is edited in the form of its kind, with its settings", () => {
  const edited = SPECS.map((spec) => new URL(kindPath(spec), "https://x"));
  expect(edited.map(({ pathname }) => pathname)).toEqual(["/new/into", "/new/apart", "/new/restyle", "/new/clip", "/new/restyle"]);
  const drafts = edited.map(({ search }) => kindDraftOf(search));
  expect(drafts[0]).toMatchObject({ picture: pictureOf(ID, cropped.crop), shape: "portrait", motion: "dolly", amplitude: 0.3, size: 128, frames: 13 });
  expect(drafts[1]).toMatchObject({ threshold: 0.3, most: 4 });
  expect(drafts[2]).toMatchObject({ way: "style", style: "woodcut", model: "m" });
  expect(drafts[3]).toMatchObject({ way: "picture", clip: { id: ID }, stylePicture: pictureOf(ID, cropped.crop), frames: undefined });
  expect(drafts[4]).toMatchObject({ way: "prompt", prompt: "a knight", strength: 0.4, seed: 3 });
});

test("a repeated request has what the walk has, and no field that its kind lacks", () => {
  const [into, apart, restyle, clip, prompted] = SPECS.map(kindRepeat);
  expect(into).toEqual({
    kind: "into", model: "m", size: 128, listed: false, frames: 13, frame_ms: 80, gif_there_and_back: false,
    mp4_there_and_back: false, picture: cropped, motion: "dolly", amplitude: 0.3,
  });
  expect(apart).toMatchObject({ threshold: 0.3, most: 4 });
  expect(restyle).toMatchObject({ style: "woodcut", picture: cropped });
  expect(clip).toEqual({ kind: "clip", model: "m", size: 128, listed: false, clip: ID, style_picture: cropped });
  expect(prompted).toMatchObject({ prompt: "a knight", strength: 0.4, seed: 3, steps: 4 });
  expect(prompted).not.toHaveProperty("scheduler");
});
