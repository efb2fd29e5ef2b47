/** The form for a new walk: what the visitor fills in, and the request that is made from it. Pure. */

import type { BetweenSpec, Crop, Walk, WalkRequest } from "../api/client";
import { promptOf } from "./labels";
import { settingParameters, settingsIn, type Settings } from "./settings";

export const MAX_STOPS = 8;
export const FRAME_COUNTS = [13, 25, 49, 61] as const;
const MAX_SEED = 2 ** 32 - 1;

/** A picture of the visitor at a stop. */
export interface ChosenPicture {
  /** "" until it has been uploaded. */
  id: string;
  /** In pixels; 0 until it is known. */
  width: number;
  height: number;
  /** The part that was chosen; null for its middle. */
  crop: Crop | null;
  /** Why it cannot be used, or "". */
  problem: string;
}

type BetweenWalk = Pick<Walk, "private"> & { spec: BetweenSpec };

export interface DraftStop {
  prompt: string;
  picture: ChosenPicture | null;
}

export interface Draft {
  stops: DraftStop[];
  frames: number;
  /** As typed; "" means the API's default, "auto" lets the API choose the smoothest of several. */
  seed: string;
  listed: boolean;
  /** The name of a model; "" means the deployment's default. */
  model: string;
  /** What differs from the defaults, or was taken over from an earlier walk. */
  settings: Settings;
}

export function stopOf(prompt: string): DraftStop {
  return { prompt, picture: null };
}

/** A picture that is not uploaded yet, or of which only the id is known. */
export function pictureOf(id: string, crop: Crop | null = null): ChosenPicture {
  return { id, width: 0, height: 0, crop, problem: "" };
}

export function emptyDraft(): Draft {
  return { stops: [stopOf(""), stopOf("")], frames: 25, seed: "", listed: true, model: "", settings: {} };
}

/** Whether nothing has been filled in at all. */
export function isBlank(draft: Draft): boolean {
  return draft.stops.length === 2 && draft.stops.every((stop) => !stop.prompt.trim() && !stop.picture);
}

export function hasPictures(draft: Draft): boolean {
  return draft.stops.some((stop) => stop.picture);
}

/** Whether a picture is still on its way to the server. */
export function isUploading(draft: Draft): boolean {
  return draft.stops.some(({ picture }) => picture && !picture.id && !picture.problem);
}

/** Without pictures whose upload has not ended: nothing continues it after a visit of another page. */
export function withUploaded(draft: Draft): Draft {
  return { ...draft, stops: draft.stops.map((stop) => (stop.picture?.id ? stop : { ...stop, picture: null })) };
}

/** In a URL, picture=1:ID:0,0,512,512 is the picture at stop 1, counted from 0, and the part of it. */
const PICTURE = /^(\d):([0-9a-f]{64})(?::(\d{1,5}),(\d{1,5}),(\d{1,5}),(\d{1,5}))?$/;

/**
 * The draft in a URL's query: ?stop=…&stop=…&picture=…&frames=…&seed=…&model=…&listed=false and settings by their names,
 * if they are valid.
 */
export function draftOf(query: string): Draft {
  const parameters = new URLSearchParams(query);
  const draft = emptyDraft();
  const stops = parameters.getAll("stop").slice(0, MAX_STOPS).map(stopOf);
  while (stops.length < 2) stops.push(stopOf(""));
  for (const text of parameters.getAll("picture")) takePicture(stops, text);
  const frames = Number(parameters.get("frames"));
  const seed = parameters.get("seed") ?? "";
  return {
    ...draft,
    stops,
    frames: Number.isInteger(frames) && frames >= 2 ? frames : draft.frames,
    seed: seedProblem(seed) ? "" : seed,
    listed: parameters.get("listed") !== "false",
    model: parameters.get("model") ?? "",
    settings: settingsIn(parameters),
  };
}

function takePicture(stops: DraftStop[], text: string): void {
  const [, index, id, ...sides] = PICTURE.exec(text) ?? [];
  const stop = stops[Number(index)];
  if (!stop || !id) return;
  const [x = 0, y = 0, width = 0, height = 0] = sides.map((side) => Number(side || 0));
  stop.picture = pictureOf(id, width && height ? { x, y, width, height } : null);
}

/** The path of a form that starts at the last stop of a walk. Seed and settings stay, and so does the picture there. */
export function continuePath({ spec, seed, private: isPrivate }: BetweenWalk & Pick<Walk, "seed">): string {
  return editPath({ ...spec, stops: spec.stops.slice(-1), seed: seed ?? spec.seed }, isPrivate);
}

/** The path of a form that holds the prompts and settings of a walk, to be edited. */
export function editPath(
  spec: Pick<BetweenSpec, "stops" | "frames" | "seed" | "model"> & Settings,
  isPrivate = false,
): string {
  const { stops, frames, seed, model } = spec;
  const parameters = new URLSearchParams([
    ...stops.map((stop) => ["stop", promptOf(stop)]),
    ...stops.flatMap((stop, index) => {
      if (typeof stop === "string") return [];
      const { x, y, width, height } = stop.crop;
      return [["picture", `${String(index)}:${stop.picture}:${[x, y, width, height].join(",")}`]];
    }),
    ...Object.entries({ frames, seed, model }).map(([name, value]) => [name, String(value)]),
    ...settingParameters(spec),
    ...(isPrivate ? [["listed", "false"]] : []),
  ]);
  return `/?${parameters.toString()}`;
}

/** The query of a URL with another model. */
export function withModel(query: string, model: string): string {
  const parameters = new URLSearchParams(query);
  parameters.set("model", model);
  return parameters.toString();
}

export function reversed(draft: Draft): Draft {
  return { ...draft, stops: draft.stops.toReversed() };
}

/** With one more stop, before the last one. */
export function withStop(draft: Draft): Draft {
  if (draft.stops.length >= MAX_STOPS) return draft;
  return { ...draft, stops: draft.stops.toSpliced(-1, 0, stopOf("")) };
}

export function withoutStop(draft: Draft, index: number): Draft {
  if (draft.stops.length <= 2) return draft;
  return { ...draft, stops: draft.stops.toSpliced(index, 1) };
}

/** One of the model card's examples, different from the current prompts. Pictures stay. random: in [0, 1). */
export function surprise(draft: Draft, examples: readonly (readonly string[])[], random: number): Draft {
  const prompts = draft.stops.map((stop) => stop.prompt).join("\n");
  const others = examples.filter((example) => example.join("\n") !== prompts);
  const picked = others[Math.floor(random * others.length)];
  if (!picked) return draft;
  if (!hasPictures(draft)) return { ...draft, stops: picked.map(stopOf), seed: "auto" };
  const stops = draft.stops.map((stop, index) => (stop.picture ? stop : stopOf(picked[index] ?? stop.prompt)));
  return { ...draft, stops, seed: "auto" };
}

/** The example with the shortest prompts, for the placeholders: these have one line each. */
export function shortest<T extends readonly string[]>(examples: readonly T[]): T | undefined {
  const length = (example: T) => Math.max(...example.map((prompt) => prompt.length));
  return examples.toSorted((one, other) => length(one) - length(other))[0];
}

/**
 * What has to be corrected before a request is sent, by the API's names of the fields. refusal: why there can be no
 * pictures, or "".
 */
export function draftProblems(draft: Draft, refusal = ""): Map<string, string> {
  const problems = new Map<string, string>();
  for (const [index, { prompt, picture }] of draft.stops.entries()) {
    const problem = picture ? picture.problem || refusal : prompt.trim() ? "" : "Enter a prompt.";
    if (problem) problems.set(`stops.${String(index)}`, problem);
  }
  const seed = seedProblem(draft.seed);
  if (seed) problems.set("seed", seed);
  return problems;
}

/** What is wrong with a seed, or "". */
export function seedProblem(seed: string): string {
  const trimmed = seed.trim();
  if (!trimmed || trimmed === "auto") return "";
  if (/^\d{1,10}$/.test(trimmed) && Number(trimmed) <= MAX_SEED) return "";
  return `The seed must be a whole number from 0 to ${String(MAX_SEED)}, or “auto”.`;
}

/** The settings that the walk has: strength is of those with pictures. */
export function usedSettings(draft: Draft): Settings {
  const { strength, ...settings } = draft.settings;
  return strength == null || !hasPictures(draft) ? settings : { ...settings, strength };
}

/** Whether the walk appears in the gallery. One with pictures is private at first. */
export function isListed(draft: Draft): boolean {
  return draft.listed && !hasPictures(draft);
}

export function requestOf(draft: Draft): WalkRequest {
  const seed = draft.seed.trim();
  const request: WalkRequest = {
    ...usedSettings(draft),
    stops: draft.stops.map(({ prompt, picture }) => {
      const text = prompt.replace(/\s+/g, " ").trim();
      return picture ? { picture: picture.id, prompt: text, ...(picture.crop && { crop: picture.crop }) } : text;
    }),
    frames: draft.frames,
    listed: isListed(draft),
  };
  if (seed) request.seed = seed === "auto" ? "auto" : Number(seed);
  if (draft.model) request.model = draft.model;
  return request;
}

/** A request for the same walk, with another seed if one is given. What was private stays so. */
export function repeatRequest({ spec, private: isPrivate }: BetweenWalk, seed?: number): WalkRequest {
  const { revision: _revision, guidance_interval: _interval, strength, stops, ...settings } = spec;
  return {
    ...settings,
    stops: [...stops],
    ...(isPrivate ? { listed: false } : {}),
    ...(strength == null ? {} : { strength }),
    ...(seed === undefined ? {} : { seed }),
  };
}

/** A seed other than this one, small enough to tell others. random: in [0, 1). */
export function otherSeed(seed: number | null, random: number): number {
  const picked = 1 + Math.floor(random * 9999);
  return picked === seed ? picked + 1 : picked;
}
