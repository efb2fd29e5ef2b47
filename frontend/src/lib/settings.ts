/** The settings of a walk beyond its prompts: their defaults, what a model allows, and how a URL holds them. Pure. */

import type { ModelCard, BetweenSpec } from "../api/client";

interface Choice<T> {
  value: T;
  label: string;
  /** What it does. */
  hint: string;
}

export const SPACINGS: readonly Choice<BetweenSpec["spacing"]>[] = [
  { value: "even", label: "Even", hint: "Every step looks equally large." },
  { value: "uniform", label: "Uniform", hint: "Equal steps between the prompts. The pictures may jump." },
  { value: "ease", label: "Ease", hint: "Like uniform, but slower near the stops." },
];

export const EFFORTS: readonly Choice<BetweenSpec["effort"]>[] = [
  { value: "fast", label: "Fast", hint: "One more round of pictures after the first." },
  { value: "balanced", label: "Balanced", hint: "Up to two more rounds, for steps that are more even." },
  { value: "best", label: "Best", hint: "Twice as many pictures, for the most even steps." },
];

/** What a walk is made with beyond its prompts, frames and seed. What is missing has its default. */
export type Settings = Partial<Omit<BetweenSpec, "kind" | "stops" | "frames" | "seed" | "model" | "revision" | "guidance_interval">>;
export type SettingName = keyof Settings;
/** New values of settings; undefined stands for the default. */
export type SettingChanges = { [Name in SettingName]?: Settings[Name] | undefined };

/** How each setting is read from a URL or from storage; undefined if its value is invalid. */
const READERS: Record<SettingName, (text: string) => string | number | boolean | undefined> = {
  width: numberOf,
  height: numberOf,
  steps: numberOf,
  guidance_scale: numberOf,
  scheduler: (text) => text,
  negative_prompt: (text) => text,
  spacing: (text) => SPACINGS.find(({ value }) => value === text)?.value,
  strength: numberOf,
  effort: (text) => EFFORTS.find(({ value }) => value === text)?.value,
  frame_ms: numberOf,
  gif_there_and_back: flagOf,
  mp4_there_and_back: flagOf,
};
const NAMES = Object.keys(READERS) as SettingName[];

/** The settings that each model has its own defaults and limits for. */
const OF_MODELS: readonly SettingName[] = ["width", "height", "steps", "guidance_scale", "scheduler", "negative_prompt"];

export function isSetting(name: string): name is SettingName {
  return name in READERS;
}

export function isOfModel(name: SettingName): boolean {
  return OF_MODELS.includes(name);
}

/** The settings among the parameters of a URL. Invalid values are left out. */
export function settingsIn(parameters: URLSearchParams): Settings {
  const found = NAMES.flatMap((name) => {
    const text = parameters.get(name);
    const value = text === null ? undefined : READERS[name](text);
    return value === undefined ? [] : [[name, value] as const];
  });
  return Object.fromEntries(found);
}

/** Settings as parameters, as `settingsIn` reads them. */
export function settingParameters(settings: Settings): URLSearchParams {
  return new URLSearchParams(NAMES.flatMap((name) => (settings[name] == null ? [] : [[name, String(settings[name])]])));
}

/** What a walk without settings has: as far as it is known, if the card is not. */
export function defaultsOf(card: ModelCard | undefined, effort: BetweenSpec["effort"]): Settings {
  const ofModel = card && {
    width: card.width,
    height: card.height,
    steps: card.num_inference_steps,
    guidance_scale: card.guidance_scale,
    scheduler: card.scheduler,
    negative_prompt: card.negative_prompt,
  };
  return { spacing: "even", effort, strength: 0.8, frame_ms: 80, gif_there_and_back: true, mp4_there_and_back: false, ...ofModel };
}

/** The settings that differ from the defaults. Only even walks have an effort. */
export function changesOf(settings: Settings, defaults: Settings): SettingName[] {
  const isEven = (settings.spacing ?? defaults.spacing) === "even";
  return NAMES.filter(
    (name) => settings[name] !== undefined && settings[name] !== defaults[name] && (name !== "effort" || isEven),
  );
}

/** The settings that a model allows. */
export function allowedBy(card: ModelCard, settings: Settings): Settings {
  const isSize = (side: number) => side >= card.min_size && side <= card.max_size && side % card.size_multiple === 0;
  const { width, height, steps, scheduler } = settings;
  const refused: Partial<Record<SettingName, boolean>> = {
    width: width !== undefined && !isSize(width),
    height: height !== undefined && !isSize(height),
    steps: steps !== undefined && !(Number.isInteger(steps) && steps >= 1 && steps <= card.max_steps),
    scheduler: scheduler !== undefined && !card.schedulers.includes(scheduler),
  };
  return only(settings, (name) => !refused[name]);
}

/** The settings whose names pass. */
export function only<T extends SettingChanges>(settings: T, passes: (name: SettingName) => boolean): T {
  return Object.fromEntries(Object.entries(settings).filter(([name]) => passes(name as SettingName))) as T;
}

/** With new values, as far as they are not the defaults. */
export function withChanges(settings: Settings, changes: SettingChanges, defaults: Settings): Settings {
  const merged = { ...settings, ...changes };
  return only(merged, (name) => merged[name] !== undefined && merged[name] !== defaults[name]) as Settings;
}

/** A number that was typed; undefined for none. */
export function numberOf(text: string): number | undefined {
  const number = text.trim() ? Number(text) : NaN;
  return Number.isFinite(number) ? number : undefined;
}

function flagOf(text: string): boolean | undefined {
  return text === "true" ? true : text === "false" ? false : undefined;
}
