/** The form for a new walk: what the visitor fills in, and the request that is made from it. Pure. */

import type { Walk, WalkRequest, WalkSpec } from "../api/client";
import { stopTitle } from "./labels";
import { settingParameters, settingsIn, type Settings } from "./settings";

export const MAX_STOPS = 8;
export const FRAME_COUNTS = [13, 25, 49, 61] as const;
const MAX_SEED = 2 ** 32 - 1;

export interface Draft {
  stops: string[];
  frames: number;
  /** As typed; "" means the API's default, "auto" lets the API choose the smoothest of several. */
  seed: string;
  listed: boolean;
  /** The name of a model; "" means the deployment's default. */
  model: string;
  /** What differs from the defaults, or was taken over from an earlier walk. */
  settings: Settings;
}

export function emptyDraft(): Draft {
  return { stops: ["", ""], frames: 25, seed: "", listed: true, model: "", settings: {} };
}

/** Whether nothing has been filled in at all. */
export function isBlank(draft: Draft): boolean {
  return draft.stops.length === 2 && draft.stops.every((stop) => !stop.trim());
}

/** The draft in a URL's query: ?stop=…&stop=…&frames=…&seed=…&model=… and settings by their names, if they are valid. */
export function draftOf(query: string): Draft {
  const parameters = new URLSearchParams(query);
  const draft = emptyDraft();
  const stops = parameters.getAll("stop").slice(0, MAX_STOPS);
  while (stops.length < 2) stops.push("");
  const frames = Number(parameters.get("frames"));
  const seed = parameters.get("seed") ?? "";
  return {
    ...draft,
    stops,
    frames: Number.isInteger(frames) && frames >= 2 ? frames : draft.frames,
    seed: seedProblem(seed) ? "" : seed,
    model: parameters.get("model") ?? "",
    settings: settingsIn(parameters),
  };
}

/** The path of a form that starts at the last stop of a walk. Seed and settings stay, and so does the picture there. */
export function continuePath({ spec, seed }: Pick<Walk, "spec" | "seed">): string {
  return editPath({ ...spec, stops: spec.stops.slice(-1), seed: seed ?? spec.seed });
}

/** The path of a form that holds the prompts and settings of a walk, to be edited. */
export function editPath(spec: Pick<WalkSpec, "stops" | "frames" | "seed" | "model"> & Settings): string {
  const { stops, frames, seed, model } = spec;
  const parameters = new URLSearchParams([
    ...stops.map((stop) => ["stop", stopTitle(stop)]),
    ...Object.entries({ frames, seed, model }).map(([name, value]) => [name, String(value)]),
    ...settingParameters(spec),
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
  return { ...draft, stops: draft.stops.toSpliced(-1, 0, "") };
}

export function withoutStop(draft: Draft, index: number): Draft {
  if (draft.stops.length <= 2) return draft;
  return { ...draft, stops: draft.stops.toSpliced(index, 1) };
}

/** One of the model card's examples, different from the current prompts. random: in [0, 1). */
export function surprise(draft: Draft, examples: readonly (readonly string[])[], random: number): Draft {
  const others = examples.filter((example) => example.join("\n") !== draft.stops.join("\n"));
  const picked = others[Math.floor(random * others.length)];
  return picked ? { ...draft, stops: [...picked], seed: "auto" } : draft;
}

/** The example with the shortest prompts, for the placeholders: these have one line each. */
export function shortest<T extends readonly string[]>(examples: readonly T[]): T | undefined {
  const length = (example: T) => Math.max(...example.map((prompt) => prompt.length));
  return examples.toSorted((one, other) => length(one) - length(other))[0];
}

/** What has to be corrected before a request is sent, by the API's names of the fields. */
export function draftProblems(draft: Draft): Map<string, string> {
  const empty = draft.stops.flatMap((stop, index) => (stop.trim() ? [] : [`stops.${String(index)}`]));
  const seed = seedProblem(draft.seed);
  return new Map([...empty.map((field) => [field, "Enter a prompt."] as const), ...(seed ? [["seed", seed] as const] : [])]);
}

/** What is wrong with a seed, or "". */
export function seedProblem(seed: string): string {
  const trimmed = seed.trim();
  if (!trimmed || trimmed === "auto") return "";
  if (/^\d{1,10}$/.test(trimmed) && Number(trimmed) <= MAX_SEED) return "";
  return `The seed must be a whole number from 0 to ${String(MAX_SEED)}, or “auto”.`;
}

export function requestOf(draft: Draft): WalkRequest {
  const seed = draft.seed.trim();
  const request: WalkRequest = {
    ...draft.settings,
    stops: draft.stops.map((stop) => stop.replace(/\s+/g, " ").trim()),
    frames: draft.frames,
    listed: draft.listed,
  };
  if (seed) request.seed = seed === "auto" ? "auto" : Number(seed);
  if (draft.model) request.model = draft.model;
  return request;
}

/** A request for the same walk, with another seed if one is given. */
export function repeatRequest(spec: WalkSpec, seed?: number): WalkRequest {
  const { revision: _revision, guidance_interval: _interval, strength: _strength, stops, ...settings } = spec;
  return { ...settings, stops: stops.map(stopTitle), ...(seed === undefined ? {} : { seed }) };
}

/** A seed other than this one, small enough to tell others. random: in [0, 1). */
export function otherSeed(seed: number | null, random: number): number {
  const picked = 1 + Math.floor(random * 9999);
  return picked === seed ? picked + 1 : picked;
}
