/** Text for a walk and its parts. Prompts are user input: these are plain strings, never markup. */

import type { Walk, WalkSpec } from "../api/client";

// Characters that change the direction of the text after them. In markup <bdi> contains them.
const DIRECTION_CONTROLS = /[\u202a-\u202e\u2066-\u2069]/g;

/** A stop in words, for people: a prompt, or that of a picture. */
export function stopTitle(stop: WalkSpec["stops"][number]): string {
  return typeof stop === "string" ? stop : stop.prompt || "a picture";
}

/** The prompt of a stop; "" for a picture without one. */
export function promptOf(stop: WalkSpec["stops"][number]): string {
  return typeof stop === "string" ? stop : stop.prompt;
}

/** "a giraffe to a battleship": the first stop and the last. */
export function titleOf(spec: Pick<WalkSpec, "stops">): string {
  return [spec.stops[0] ?? "", spec.stops.at(-1) ?? ""].map(stopTitle).join(" to ").replace(DIRECTION_CONTROLS, "");
}

/** The font size of a walk's heading: the longer the prompts, the smaller. */
export function sizeOf(spec: Pick<WalkSpec, "stops">): "large" | "middle" | "small" {
  const length = spec.stops.map(stopTitle).join(" via ").length;
  return length <= 110 ? "large" : length <= 400 ? "middle" : "small";
}

/** The alternative text of a frame. frame: counted from 0. */
export function altOf(spec: Pick<WalkSpec, "stops" | "frames">, frame: number): string {
  return `${frameName(frame, spec.frames)} of the walk from ${spec.stops.map(stopTitle).join(" to ").replace(DIRECTION_CONTROLS, "")}`;
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

/** The frames of a walk and how they are spaced; the effort only if it is not the usual one. */
export function framesText({ frames, spacing, effort }: Pick<WalkSpec, "frames" | "spacing" | "effort">): string {
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
