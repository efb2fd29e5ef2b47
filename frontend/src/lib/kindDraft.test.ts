import { expect, test } from "vitest";
import { pictureOf } from "./draft";
import { frameRatio, isSending, kindDraftOf, kindProblems, kindQuery, pathWithPicture, type KindDraft } from "./kindDraft";

const ID = "5a".repeat(32);
const CROP = { x: 1, y: 2, width: 30, height: 40 };
const picture = { ...pictureOf(ID), width: 400, height: 300 };
const draft = (changes: Partial<KindDraft>): KindDraft => ({ ...kindDraftOf(""), ...changes });

test("a draft survives the trip through its URL, and one with defaults leaves no trace", () => {
  for (const changes of [
    { picture: pictureOf(ID, CROP), shape: "portrait", motion: "zoom", amplitude: 0.8 },
    { clip: { id: ID }, style: "stained-glass", model: "styles", size: 480 },
    { way: "prompt", prompt: "a & b = “c”?", strength: 0.4, seed: 7 },
    { way: "picture", stylePicture: pictureOf(ID) },
    { threshold: 0.2, most: 3, frames: 25, frame_ms: 100 },
  ] satisfies Partial<KindDraft>[]) {
    expect(kindDraftOf(`?${kindQuery(draft(changes))}`)).toEqual(draft(changes));
  }
  expect(kindQuery(kindDraftOf(""))).toBe("");
});

test("a URL fills in only valid values", () => {
  const invalid = "?picture=5a&shape=round&clip=x&motion=fly&amplitude=9&threshold=0&most=1e9&frames=1&frame_ms=x&size=-1&seed=-1";
  expect(kindDraftOf(invalid)).toEqual(kindDraftOf(""));
  expect(kindDraftOf(pathWithPicture("into", ID).slice(9)).picture).toEqual(pictureOf(ID));
});

test("a style that is not chosen is not in the URL", () => {
  expect(kindQuery(draft({ way: "prompt", prompt: "a knight", style: "woodcut" }))).toBe("prompt=a+knight");
});

test("frames have the picture's shape until another one is chosen", () => {
  expect(frameRatio({ shape: "own", picture })).toBeCloseTo(4 / 3);
  expect(frameRatio({ shape: "portrait", picture })).toBe(0.75);
  expect(frameRatio({ shape: "square", picture })).toBe(1);
  expect(frameRatio({ shape: "own", picture: null })).toBe(1);
});

test("what is missing is named by its field", () => {
  const missing = (...args: Parameters<typeof kindProblems>) => [...kindProblems(...args).keys()];
  expect(missing("into", draft({}))).toEqual(["picture"]);
  expect(missing("clip", draft({ way: "prompt" }))).toEqual(["clip", "prompt"]);
  expect(missing("restyle", draft({ picture, way: "picture" }))).toEqual(["style_picture"]);
  expect(missing("restyle", draft({ picture }))).toEqual([]);
  expect(kindProblems("apart", draft({ picture: { ...picture, problem: "Gone." } })).get("picture")).toBe("Gone.");
});

test("a picture is on its way until it has an id or a problem", () => {
  expect(isSending(draft({ picture: pictureOf("") }))).toBe(true);
  expect(isSending(draft({ picture, stylePicture: pictureOf("") }))).toBe(true);
  expect(isSending(draft({ picture: { ...pictureOf(""), problem: "No." } }))).toBe(false);
});
