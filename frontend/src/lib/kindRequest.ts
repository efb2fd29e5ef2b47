/** The request of a walk of a picture or a clip: of a draft, or of a walk that is to be made again or edited. Pure. */

import type { CroppedPicture, KindRequest, Model, OtherSpec } from "../api/client";
import { cropAt, viewOf } from "./crop";
import { pictureOf, type ChosenPicture } from "./draft";
import { frameRatio, kindDraftOf, kindQuery, type KindDraft } from "./kindDraft";
import { choicesOf, styleIn, stylesOf, type OfferedStyle } from "./kindStyles";
import { hasWays, pathOf, PORTRAIT, type OtherKind } from "./kinds";

const SAME_SHAPE = 0.02;

/** The request of a draft without problems. */
export function kindRequest(kind: OtherKind, draft: KindDraft, models: readonly Model[]): KindRequest {
  const [chosenModel] = choicesOf(kind, draft, models).filter(({ name }) => name === draft.model);
  const request = {
    kind,
    listed: false,
    ...(kind === "clip" ? { clip: draft.clip?.id ?? "" } : { picture: cropped(draft.picture, frameRatio(draft)) }),
    ...(kind === "into" && { motion: draft.motion, amplitude: draft.amplitude }),
    ...(kind === "apart" && { threshold: draft.threshold, most: draft.most }),
    ...(kind !== "clip" && { frames: draft.frames, frame_ms: draft.frame_ms }),
    size: draft.size,
    model: chosenModel?.name,
    ...(hasWays(kind) && wayOf(draft, stylesOf(kind, models))),
  };
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined)) as unknown as KindRequest;
}

function wayOf(draft: KindDraft, offered: readonly OfferedStyle[]): Record<string, unknown> {
  if (draft.way === "prompt") {
    return { prompt: draft.prompt.replace(/\s+/g, " ").trim(), strength: draft.strength, seed: draft.seed };
  }
  if (draft.way === "picture") return { style_picture: { picture: draft.stylePicture?.id ?? "" } };
  const style = styleIn(draft, offered);
  return { style: style?.style.name, model: style?.model };
}

/** A picture in a request. The whole of it needs no crop. */
function cropped(picture: ChosenPicture | null, ratio: number): { picture: string; crop?: CroppedPicture["crop"] } {
  const { id = "", width = 0, height = 0, crop = null } = picture ?? {};
  if (!width) return { picture: id, ...(crop && { crop }) };
  const size = { width, height };
  const shown = cropAt(viewOf(crop, size, ratio), size, ratio);
  return shown.width === width && shown.height === height ? { picture: id } : { picture: id, crop: shown };
}

/** A request for the same walk. */
export function kindRepeat(spec: OtherSpec): KindRequest {
  const { kind, width, height, frames, frame_ms, gif_there_and_back, mp4_there_and_back, model } = spec;
  const common = { kind, model, size: Math.max(width, height), listed: false };
  const timed = { ...common, frames, frame_ms, gif_there_and_back, mp4_there_and_back };
  if (spec.kind === "into") return { ...timed, picture: spec.picture, motion: spec.motion, amplitude: spec.amplitude } as KindRequest;
  if (spec.kind === "apart") return { ...timed, picture: spec.picture, threshold: spec.threshold, most: spec.most } as KindRequest;
  const { style, style_picture, prompt, negative_prompt, strength, seed, steps, guidance_scale } = spec;
  const way = prompt == null ? { style, style_picture } : { prompt, negative_prompt, strength, seed, steps, guidance_scale };
  const given = Object.fromEntries(Object.entries(way).filter(([, value]) => value != null));
  return { ...(spec.kind === "clip" ? { ...common, clip: spec.clip } : { ...timed, picture: spec.picture }), ...given } as KindRequest;
}

/** The path of a form that holds the settings of a walk, to be edited. */
export function kindPath(spec: OtherSpec): string {
  return `${pathOf(spec.kind)}?${kindQuery(draftFrom(spec))}`;
}

function draftFrom(spec: OtherSpec): KindDraft {
  const { width, height, frames, frame_ms, model } = spec;
  const draft = kindDraftOf("");
  const size = Math.max(width, height);
  const shape = width === height ? "square" : Math.abs(width / height - PORTRAIT) < SAME_SHAPE ? "portrait" : "own";
  if (spec.kind === "clip") return { ...draft, ...wayFrom(spec), clip: { id: spec.clip }, size, model };
  const own = { picture: chosen(spec.picture), shape, frames, frame_ms, size, model } as const;
  if (spec.kind === "into") return { ...draft, ...own, motion: spec.motion, amplitude: spec.amplitude };
  if (spec.kind === "apart") return { ...draft, ...own, threshold: spec.threshold, most: spec.most };
  return { ...draft, ...own, ...wayFrom(spec) };
}

function wayFrom(spec: Extract<OtherSpec, { kind: "restyle" | "clip" }>): Partial<KindDraft> {
  if (spec.style_picture) return { way: "picture", stylePicture: chosen(spec.style_picture) };
  if (spec.style) return { way: "style", style: spec.style };
  return { way: "prompt", prompt: spec.prompt ?? "", strength: spec.strength ?? undefined, seed: spec.seed ?? undefined };
}

function chosen({ picture, crop }: CroppedPicture): ChosenPicture {
  return pictureOf(picture, { ...crop });
}
