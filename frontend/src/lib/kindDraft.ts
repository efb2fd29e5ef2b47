/** What the visitor fills in for a walk of a picture or a clip, and the URL that holds it. Pure. */

import type { Clip, Motion } from "../api/client";
import { pictureOf, type ChosenPicture } from "./draft";
import { hasWays, pathOf, PORTRAIT, type OtherKind } from "./kinds";
import { numberOf } from "./settings";

/** Where a style comes from. */
export type Way = "style" | "prompt" | "picture";
export type FrameShape = "own" | "portrait" | "square";

/** A number that is undefined has the API's default. */
export interface KindDraft {
  picture: ChosenPicture | null;
  shape: FrameShape;
  clip: Pick<Clip, "id"> | null;
  motion: Motion;
  amplitude: number;
  way: Way;
  /** The name of a style; "" for the first one. */
  style: string;
  prompt: string;
  strength: number | undefined;
  seed: number | undefined;
  stylePicture: ChosenPicture | null;
  threshold: number;
  most: number;
  frames: number | undefined;
  frame_ms: number | undefined;
  /** The longer side of a frame, in pixels. */
  size: number | undefined;
  /** The name of a model; "" for the first one. */
  model: string;
}

/** The frames of a walk, the first one the default; a clip has its own. */
export const KIND_FRAMES: Record<OtherKind, readonly number[]> = {
  into: [49, 25, 97],
  restyle: [9, 5, 17, 25],
  clip: [],
  apart: [13, 7, 25],
};
export const KIND_FRAME_MS: Record<OtherKind, number> = { into: 40, restyle: 120, clip: 40, apart: 200 };
const ID = /^[0-9a-f]{64}$/;
const PICTURE = /^([0-9a-f]{64})(?::(\d{1,5}),(\d{1,5}),(\d{1,5}),(\d{1,5}))?$/;
const MOTION_NAMES: readonly Motion[] = ["sway", "circle", "dolly", "zoom"];

/** Width through height of a frame; 1 while the picture's size is unknown. */
export function frameRatio({ shape, picture }: Pick<KindDraft, "shape" | "picture">): number {
  if (shape === "portrait") return PORTRAIT;
  return shape === "own" && picture?.width ? picture.width / picture.height : 1;
}

/** The draft in a URL's query, as far as it is valid. */
export function kindDraftOf(query: string): KindDraft {
  const parameters = new URLSearchParams(query);
  const text = (name: string) => parameters.get(name) ?? "";
  const number = (name: string, least: number, most: number) => {
    const value = numberOf(text(name));
    return value !== undefined && value >= least && value <= most ? value : undefined;
  };
  const shape = text("shape");
  const clip = text("clip");
  const stylePicture = pictureIn(text("style_picture"));
  return {
    picture: pictureIn(text("picture")),
    shape: shape === "portrait" || shape === "square" ? shape : "own",
    clip: ID.test(clip) ? { id: clip } : null,
    motion: MOTION_NAMES.find((name) => name === text("motion")) ?? "sway",
    amplitude: number("amplitude", 0.1, 1) ?? 0.5,
    way: stylePicture ? "picture" : text("prompt") ? "prompt" : "style",
    style: text("style"),
    prompt: text("prompt"),
    strength: number("strength", 0.1, 1),
    seed: number("seed", 0, 2 ** 32 - 1),
    stylePicture,
    threshold: number("threshold", 0.05, 0.95) ?? 0.5,
    most: number("most", 1, 50) ?? 20,
    frames: number("frames", 2, 1000),
    frame_ms: number("frame_ms", 20, 2000),
    size: number("size", 1, 10_000),
    model: text("model"),
  };
}

function pictureIn(text: string): ChosenPicture | null {
  const [, id, ...sides] = PICTURE.exec(text) ?? [];
  if (!id) return null;
  const [x = 0, y = 0, width = 0, height = 0] = sides.map((side) => Number(side || 0));
  return pictureOf(id, width && height ? { x, y, width, height } : null);
}

/** The query of a URL with a draft, as `kindDraftOf` reads it: only what differs from the defaults. */
export function kindQuery(draft: KindDraft): string {
  const { picture, stylePicture, clip, way, style, prompt, ...others } = draft;
  const fields = {
    ...others,
    picture: picture?.id && pictureText(picture),
    clip: clip?.id,
    ...(way === "style" && { style }),
    ...(way === "prompt" && { prompt }),
    ...(way === "picture" && { style_picture: stylePicture?.id && pictureText(stylePicture) }),
  };
  const usual = kindDraftOf("") as unknown as Record<string, unknown>;
  const changed = Object.entries(fields).filter(([name, value]) => value !== undefined && value !== "" && value !== usual[name]);
  return new URLSearchParams(changed.map(([name, value]) => [name, String(value)])).toString();
}

function pictureText({ id, crop }: Pick<ChosenPicture, "id" | "crop">): string {
  return crop ? `${id}:${[crop.x, crop.y, crop.width, crop.height].join(",")}` : id;
}

/** The path of a form that starts with a picture of the visitor. */
export function pathWithPicture(kind: OtherKind, id: string): string {
  return `${pathOf(kind)}?picture=${id}`;
}

/** What has to be corrected before a request is sent, by the API's names of the fields. */
export function kindProblems(kind: OtherKind, draft: KindDraft): Map<string, string> {
  const problems = new Map<string, string>();
  if (kind === "clip" && !draft.clip) problems.set("clip", "Choose a clip.");
  if (kind !== "clip") noteProblem("picture", draft.picture, "Choose a picture.");
  if (!hasWays(kind)) return problems;
  if (draft.way === "prompt" && !draft.prompt.trim()) problems.set("prompt", "Enter a prompt.");
  if (draft.way === "picture") noteProblem("style_picture", draft.stylePicture, "Choose a picture that has the style.");
  return problems;

  function noteProblem(name: string, picture: ChosenPicture | null, missing: string): void {
    const problem = picture ? picture.problem : missing;
    if (problem) problems.set(name, problem);
  }
}

/** Whether a picture is still on its way to the server. */
export function isSending({ picture, stylePicture }: KindDraft): boolean {
  return [picture, stylePicture].some((one) => one && !one.id && !one.problem);
}
