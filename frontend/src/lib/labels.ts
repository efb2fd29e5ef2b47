/** Text for a walk and its parts. Prompts are user input: these are plain strings, never markup. */

import type { BetweenSpec, ClipSpec, RestyleSpec, Walk, WalkSpec } from "../api/client";

// Characters that change the direction of the text after them. In markup <bdi> contains them.
const DIRECTION_CONTROLS = /[\u202a-\u202e\u2066-\u2069]/g;

/** Whether a walk goes from stop to stop. */
export function isBetween(spec: WalkSpec): spec is BetweenSpec {
  return spec.kind === "between";
}

/** What a title needs of a spec. */
export type Titled = Pick<BetweenSpec, "kind" | "stops"> | Exclude<WalkSpec, BetweenSpec>;

/** A stop in words, for people: a prompt, or that of a picture. */
function stopTitle(stop: BetweenSpec["stops"][number]): string {
  return typeof stop === "string" ? stop : stop.prompt || "a picture";
}

/** The prompt of a stop; "" for a picture without one. */
export function promptOf(stop: BetweenSpec["stops"][number]): string {
  return typeof stop === "string" ? stop : stop.prompt;
}

/** The parts of a walk's title: its stops, or what the walk does. */
export function titlesOf(spec: Titled): string[] {
  switch (spec.kind) {
    case "into":
      return ["Into a picture"];
    case "restyle":
      return [`A picture ${styleText(spec)}`];
    case "clip":
      return [`A clip ${styleText(spec)}`];
    case "apart":
      return ["A picture taken apart"];
    default:
      return spec.stops.map(stopTitle);
  }
}

/** "as stained glass", "in the style of a picture". */
function styleText({ style, prompt }: RestyleSpec | ClipSpec): string {
  const words = style?.replaceAll("-", " ") ?? prompt;
  return words ? `as ${words}` : "in the style of a picture";
}

/** "a giraffe to a battleship": the first stop and the last. */
export function titleOf(spec: Titled): string {
  const titles = titlesOf(spec);
  return [...new Set([0, titles.length - 1])].map((index) => titles[index] ?? "").join(" to ").replace(DIRECTION_CONTROLS, "");
}

/** The font size of a walk's heading: the longer the prompts, the smaller. */
export function sizeOf(spec: Titled): "large" | "middle" | "small" {
  const length = titlesOf(spec).join(" via ").length;
  return length <= 110 ? "large" : length <= 400 ? "middle" : "small";
}

/** The alternative text of a frame. frame: counted from 0. */
export function altOf(spec: Titled & Pick<WalkSpec, "frames">, frame: number): string {
  const titles = titlesOf(spec);
  const what = titles.length > 1 ? ` of the walk from ${titles.join(" to ")}` : `: ${titles.join("")}`;
  return `${frameName(frame, spec.frames)}${what.replace(DIRECTION_CONTROLS, "")}`;
}

/** "Frame 9 of 25". frame: counted from 0; the text counts from 1. */
export function frameName(frame: number, frames: number): string {
  return `Frame ${String(frame + 1)} of ${String(frames)}`;
}

/** "20 November 2026" in the visitor's time zone. */
export function dayOf(iso: string, zone?: string): string {
  return new Intl.DateTimeFormat("en-GB", { dateStyle: "long", ...(zone ? { timeZone: zone } : {}) }).format(
    new Date(iso),
  );
}

/** What decides how a walk looks, beside its model: names and values. */
export function factsOf({ spec, seed }: Pick<Walk, "spec" | "seed">): [string, string][] {
  const frames = String(spec.frames);
  switch (spec.kind) {
    case "into":
      return [["Motion", `${spec.motion}, amplitude ${percentOf(spec.amplitude)}`], ["Frames", frames]];
    case "apart":
      return [["Objects", `at most ${String(spec.most)}, threshold ${percentOf(spec.threshold)}`], ["Frames", frames]];
    case "restyle":
    case "clip":
      return [
        ...(spec.prompt ? ([["Seed", String(seed ?? 0)], ["Strength", percentOf(spec.strength ?? 1)]] as [string, string][]) : []),
        ["Frames", frames],
      ];
    default:
      return [["Seed", String(seed ?? "not chosen yet")], ["Frames", framesText(spec)]];
  }
}

/** "55%", as the forms show a share. */
function percentOf(share: number): string {
  return `${String(Math.round(100 * share))}%`;
}

/** The frames of a walk and how they are spaced; the effort only if it is not the usual one. */
export function framesText({ frames, spacing, effort }: Pick<BetweenSpec, "frames" | "spacing" | "effort">): string {
  return `${String(frames)}, ${spacing} spacing${effort === "balanced" ? "" : ` (${effort})`}`;
}

/** How smooth a finished walk is; "" if it was not measured. */
export function smoothnessOf(smoothness: Walk["smoothness"]): string {
  if (!smoothness) return "";
  const parts: string[] = [];
  if (smoothness.evenness !== null) parts.push(`evenness ${smoothness.evenness.toFixed(2)}`);
  if (smoothness.largest !== null) parts.push(`largest step ${smoothness.largest.toFixed(1)} ×`);
  if (smoothness.sharpness !== null) parts.push(`sharpness ${smoothness.sharpness.toFixed(2)}`);
  return parts.join(", ") || "No motion";
}

/** Where a walk jumps; "" if it does not. */
export function jumpsOf(smoothness: Walk["smoothness"]): string {
  const frames = (smoothness?.jumps ?? []).map((jump) => String(jump.frame + 1));
  if (!frames.length) return "";
  return `${frames.length === 1 ? "at frame" : "at frames"} ${joined(frames)}`;
}

function joined(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1) ?? ""}`;
}

/** The name of each film on its download link. */
export const FILM_NAMES: Readonly<Record<string, string>> = { "walk.mp4": "MP4", "walk.gif": "GIF" };
