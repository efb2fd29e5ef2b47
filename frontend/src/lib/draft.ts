/** What the visitor fills in, and what of it is asked. Pure. */

import type { WalkSpec, Wish } from "../api/client";

export const MOST_STOPS = 8;
export const LENGTHS = [13, 25, 49, 61] as const;
const MOST_SEED = 2 ** 32 - 1;

/** seed: as typed; "" is the api's default, "auto" looks for one that walks evenly. */
export interface Draft {
  stops: string[];
  frames: number;
  seed: string;
  listed: boolean;
}

export function emptyDraft(): Draft {
  return { stops: ["", ""], frames: 25, seed: "", listed: true };
}

/** Whether nothing has been filled in at all. */
export function isBlank(draft: Draft): boolean {
  return draft.stops.length === 2 && draft.stops.every((stop) => !stop.trim());
}

/** A draft as an address asks for it: /?stop=…&stop=…&frames=…&seed=… */
export function draftOf(query: string): Draft {
  const asked = new URLSearchParams(query);
  const draft = emptyDraft();
  const stops = asked.getAll("stop").slice(0, MOST_STOPS);
  while (stops.length < 2) stops.push("");
  const frames = Number(asked.get("frames"));
  const seed = asked.get("seed") ?? "";
  return {
    ...draft,
    stops,
    frames: LENGTHS.some((length) => length === frames) ? frames : draft.frames,
    seed: seedProblem(seed) ? "" : seed,
  };
}

/** The address of a form in which a walk goes on from where another ended. */
export function goOnPath(spec: Pick<WalkSpec, "stops">): string {
  return `/?${new URLSearchParams({ stop: spec.stops.at(-1) ?? "" }).toString()}`;
}

/** The address of a form that holds a walk's own prompts, to be changed. */
export function editPath(spec: Pick<WalkSpec, "stops" | "frames" | "seed">): string {
  const asked = new URLSearchParams(spec.stops.map((stop) => ["stop", stop]));
  asked.set("frames", String(spec.frames));
  asked.set("seed", String(spec.seed));
  return `/?${asked.toString()}`;
}

export function swapped(draft: Draft): Draft {
  return { ...draft, stops: draft.stops.toReversed() };
}

/** One stop more, before the last, so that where the walk ends stays. */
export function withStop(draft: Draft): Draft {
  if (draft.stops.length >= MOST_STOPS) return draft;
  return { ...draft, stops: draft.stops.toSpliced(-1, 0, "") };
}

export function withoutStop(draft: Draft, index: number): Draft {
  if (draft.stops.length <= 2) return draft;
  return { ...draft, stops: draft.stops.toSpliced(index, 1) };
}

/** One of the model card's examples, another than what stands there. chance: 0 to 1, 1 left out. */
export function surprise(draft: Draft, examples: readonly (readonly string[])[], chance: number): Draft {
  const others = examples.filter((example) => example.join("\n") !== draft.stops.join("\n"));
  const picked = others[Math.floor(chance * others.length)];
  return picked ? { ...draft, stops: [...picked], seed: "auto" } : draft;
}

/** The example with the shortest prompts: it stands in the empty fields, where a line is all there is. */
export function shortest<T extends readonly string[]>(examples: readonly T[]): T | undefined {
  const length = (example: T) => Math.max(...example.map((prompt) => prompt.length));
  return examples.toSorted((one, other) => length(one) - length(other))[0];
}

/** What is wrong with each stop that is empty, by its index. */
export function stopProblems(draft: Draft): Map<number, string> {
  const empty = draft.stops.flatMap((stop, index) => (stop.trim() ? [] : [index]));
  return new Map(empty.map((index) => [index, "Say what should be seen here."]));
}

/** What is wrong with a seed, or "". */
export function seedProblem(seed: string): string {
  const said = seed.trim();
  if (!said || said === "auto") return "";
  return /^\d{1,10}$/.test(said) && Number(said) <= MOST_SEED ? "" : `A whole number up to ${String(MOST_SEED)}, or auto.`;
}

export function wishOf(draft: Draft): Wish {
  const seed = draft.seed.trim();
  const wish: Wish = {
    stops: draft.stops.map((stop) => stop.replace(/\s+/g, " ").trim()),
    frames: draft.frames,
    listed: draft.listed,
  };
  if (seed) wish.seed = seed === "auto" ? "auto" : Number(seed);
  return wish;
}

/** The same walk once more. seed: another one, where given. */
export function again(spec: WalkSpec, seed?: number): Wish {
  const { model: _model, revision: _revision, stops, ...look } = spec;
  return { ...look, stops: [...stops], ...(seed === undefined ? {} : { seed }) };
}

/** A seed that is not this one. chance: 0 to 1, 1 left out. Small, so that it can be told to others. */
export function otherSeed(seed: number | null, chance: number): number {
  const picked = 1 + Math.floor(chance * 9999);
  return picked === seed ? picked + 1 : picked;
}
