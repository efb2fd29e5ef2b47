/** How a walk and its parts are called. Prompts are the visitors' words: these are plain strings, never markup. */

import type { Walk, WalkSpec } from "../api/client";

// Marks that turn the direction of whatever is written after them. In markup <bdi> holds them.
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;

/** "a giraffe to a battleship", also where it passes through others. */
export function titleOf(spec: Pick<WalkSpec, "stops">): string {
  return `${spec.stops[0] ?? ""} to ${spec.stops.at(-1) ?? ""}`.replace(TURNING, "");
}

/** How large the stops of a walk are set: the more words, the smaller. */
export function sizeOf(spec: Pick<WalkSpec, "stops">): "large" | "middle" | "small" {
  const length = spec.stops.join(" by ").length;
  return length <= 110 ? "large" : length <= 400 ? "middle" : "small";
}

/** What the stage or a slot shows, for those who do not see it. frame: counted from 0. */
export function altOf(spec: Pick<WalkSpec, "stops" | "frames">, frame: number): string {
  return `${frameName(frame, spec.frames)} on the way from ${spec.stops.join(" to ").replace(TURNING, "")}`;
}

/** "Frame 9 of 25". frame: counted from 0, said from 1. */
export function frameName(frame: number, frames: number): string {
  return `Frame ${String(frame + 1)} of ${String(frames)}`;
}

/** "20 November 2026" in the visitor's own time. */
export function dayOf(iso: string, zone?: string): string {
  return new Intl.DateTimeFormat("en-GB", { dateStyle: "long", ...(zone ? { timeZone: zone } : {}) }).format(
    new Date(iso),
  );
}

/** How a finished walk moves, in a sentence; none where nothing was measured. */
export function smoothnessOf(smoothness: Walk["smoothness"]): string {
  if (!smoothness) return "";
  const parts: string[] = [];
  if (smoothness.evenness !== null) parts.push(`evenness ${smoothness.evenness.toFixed(2)}`);
  if (smoothness.largest !== null) parts.push(`largest step ${smoothness.largest.toFixed(1)} ×`);
  if (smoothness.sharpness !== null) parts.push(`sharpness ${smoothness.sharpness.toFixed(2)}`);
  return parts.join(", ") || "Nothing moves";
}

/** Where a walk jumps, in words; empty where it does not. */
export function jumpsOf(smoothness: Walk["smoothness"]): string {
  const frames = (smoothness?.jumps ?? []).map((jump) => String(jump.frame + 1));
  if (!frames.length) return "";
  return `${frames.length === 1 ? "to frame" : "to frames"} ${listed(frames)}`;
}

function listed(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1) ?? ""}`;
}

/** How a film is called on the button that fetches it. */
export const FILM_NAMES: Readonly<Record<string, string>> = { "walk.mp4": "MP4", "walk.gif": "GIF" };
