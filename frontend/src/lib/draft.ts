/** The form for a new walk: what the visitor fills in, and the request that is made from it. Pure. */

import type { Walk, WalkRequest, WalkSpec } from "../api/client";

export const MAX_STOPS = 8;
export const FRAME_COUNTS = [13, 25, 49, 61] as const;
const MAX_SEED = 2 ** 32 - 1;

interface Choice<T> {
  value: T;
  label: string;
  /** What it does. */
  hint: string;
}

export const SPACINGS: readonly Choice<WalkSpec["spacing"]>[] = [
  { value: "even", label: "Even", hint: "Every step looks equally large." },
  { value: "uniform", label: "Uniform", hint: "Equal steps between the prompts. The pictures may jump." },
  { value: "ease", label: "Ease", hint: "Like uniform, but slower near the stops." },
];

export const EFFORTS: readonly Choice<WalkSpec["effort"]>[] = [
  { value: "fast", label: "Fast", hint: "One more round of pictures after the first." },
  { value: "balanced", label: "Balanced", hint: "Up to two more rounds, for steps that are more even." },
  { value: "best", label: "Best", hint: "Twice as many pictures, for the most even steps." },
];

/** What a walk is made with beyond the fields of the form; what is missing comes from the model card. */
export type Settings = Partial<Omit<WalkSpec, "stops" | "frames" | "seed" | "model" | "revision" | "guidance_interval">>;

/** How each setting is read from a URL; undefined if its value is invalid. */
const SETTINGS: Record<keyof Settings, (text: string) => string | number | boolean | undefined> = {
  width: numberOf,
  height: numberOf,
  steps: numberOf,
  guidance_scale: numberOf,
  scheduler: (text) => text,
  negative_prompt: (text) => text,
  spacing: (text) => SPACINGS.find(({ value }) => value === text)?.value,
  effort: (text) => EFFORTS.find(({ value }) => value === text)?.value,
  frame_ms: numberOf,
  gif_there_and_back: flagOf,
  mp4_there_and_back: flagOf,
};

/**
 * seed: as typed; "" means the API's default, "auto" lets the API choose the smoothest of several. settings: kept from
 * an earlier walk.
 */
export interface Draft {
  stops: string[];
  frames: number;
  seed: string;
  listed: boolean;
  settings: Settings;
}

export function emptyDraft(): Draft {
  return { stops: ["", ""], frames: 25, seed: "", listed: true, settings: {} };
}

/** Whether nothing has been filled in at all. */
export function isBlank(draft: Draft): boolean {
  return draft.stops.length === 2 && draft.stops.every((stop) => !stop.trim());
}

/** The draft in a URL's query: ?stop=…&stop=…&frames=…&seed=… and settings by their names. Invalid values are left out. */
export function draftOf(query: string): Draft {
  const parameters = new URLSearchParams(query);
  const draft = emptyDraft();
  const stops = parameters.getAll("stop").slice(0, MAX_STOPS);
  while (stops.length < 2) stops.push("");
  const frames = Number(parameters.get("frames"));
  const seed = parameters.get("seed") ?? "";
  const settings = Object.entries(SETTINGS).flatMap(([name, read]) => {
    const text = parameters.get(name);
    const value = text === null ? undefined : read(text);
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    ...draft,
    stops,
    frames: Number.isInteger(frames) && frames >= 2 ? frames : draft.frames,
    seed: seedProblem(seed) ? "" : seed,
    settings: Object.fromEntries(settings),
  };
}

/** The path of a form that starts at the last stop of a walk. Seed and settings stay, and so does the picture there. */
export function continuePath({ spec, seed }: Pick<Walk, "spec" | "seed">): string {
  return editPath({ ...spec, stops: spec.stops.slice(-1), seed: seed ?? spec.seed });
}

/** The path of a form that holds the prompts and settings of a walk, to be edited. */
export function editPath(spec: Pick<WalkSpec, "stops" | "frames" | "seed"> & Settings): string {
  const parameters = new URLSearchParams(spec.stops.map((stop) => ["stop", stop]));
  parameters.set("frames", String(spec.frames));
  parameters.set("seed", String(spec.seed));
  for (const name of Object.keys(SETTINGS) as (keyof Settings)[]) {
    if (spec[name] !== undefined) parameters.set(name, String(spec[name]));
  }
  return `/?${parameters.toString()}`;
}

function numberOf(text: string): number | undefined {
  const number = text.trim() ? Number(text) : NaN;
  return Number.isFinite(number) ? number : undefined;
}

function flagOf(text: string): boolean | undefined {
  return text === "true" ? true : text === "false" ? false : undefined;
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

/** A message for each stop that is empty, by its index. */
export function stopProblems(draft: Draft): Map<number, string> {
  const empty = draft.stops.flatMap((stop, index) => (stop.trim() ? [] : [index]));
  return new Map(empty.map((index) => [index, "Enter a prompt."]));
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
  return request;
}

/** A request for the same walk, with another seed if one is given. */
export function repeatRequest(spec: WalkSpec, seed?: number): WalkRequest {
  const { model: _model, revision: _revision, guidance_interval: _interval, stops, ...settings } = spec;
  return { ...settings, stops: [...stops], ...(seed === undefined ? {} : { seed }) };
}

/** A seed other than this one, small enough to tell others. random: in [0, 1). */
export function otherSeed(seed: number | null, random: number): number {
  const picked = 1 + Math.floor(random * 9999);
  return picked === seed ? picked + 1 : picked;
}
