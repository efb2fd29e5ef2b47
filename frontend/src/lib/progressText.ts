/** What is said of a walk on its way, in words. Pure. */

import type { Walk } from "../api/client";

type Told = Pick<
  Walk,
  "state" | "spec" | "seed" | "landed" | "probes" | "place_in_line" | "replicas_awake" | "seconds_left"
>;

export const ENDED: readonly Walk["state"][] = ["done", "failed", "cancelled"];

export function hasEnded(walk: Pick<Walk, "state">): boolean {
  return ENDED.includes(walk.state);
}

/** 1st, 2nd, 3rd, 4th, 11th, 21st … */
export function ordinal(number: number): string {
  const teen = number % 100 >= 11 && number % 100 <= 13;
  const ending = teen ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${String(number)}${ending}`;
}

/** "1 replica", "3 replicas". */
export function counted(number: number, one: string, many = `${one}s`): string {
  return `${String(number)} ${number === 1 ? one : many}`;
}

/** How long, as roughly as an estimate is. */
export function about(seconds: number): string {
  if (seconds < 1) return "a moment";
  if (seconds < 100) return `about ${String(Math.round(seconds))} s`;
  return `about ${String(Math.round(seconds / 60))} min`;
}

/** The one line that says how far a walk is. */
export function progressOf(walk: Told): string {
  switch (walk.state) {
    case "done":
      return "Done";
    case "failed":
      return `Failed at ${landedOf(walk)}`;
    case "cancelled":
      return `Cancelled at ${landedOf(walk)}`;
    case "filming":
      return `${landedOf(walk)} · Making the films`;
  }
  if (walk.replicas_awake === 0) return "Waking a GPU, some minutes";
  if (walk.state === "waiting") return waiting(walk.place_in_line);
  const looking = walk.landed.length === 0 && (walk.seed === null || walk.spec.spacing === "even");
  const parts = [looking ? lookingFor(walk.seed) : landedOf(walk), counted(walk.replicas_awake, "replica")];
  if (walk.seconds_left) parts.push(about(walk.seconds_left));
  return parts.join(" · ");
}

function waiting(place: number | null): string {
  return place === null || place <= 1 ? "Next in line" : `${ordinal(place)} in line`;
}

function lookingFor(seed: number | null): string {
  return seed === null ? "Finding a seed that walks evenly" : "Finding even steps";
}

function landedOf({ landed, spec }: Told): string {
  return `${String(landed.length)} of ${String(spec.frames)}`;
}

/** Which quarter of its frames a walk has reached, 0 to 4. Four only once it is done. */
export function quarterOf(walk: Pick<Walk, "state" | "landed" | "spec">): number {
  if (walk.state === "done") return 4;
  return Math.min(3, Math.floor((4 * walk.landed.length) / walk.spec.frames));
}

/** What is announced at a quarter, and at the end of a walk that did not get there. */
export function announcementOf(walk: Pick<Walk, "state" | "landed" | "spec">): string {
  if (walk.state === "failed") return "The walk failed.";
  if (walk.state === "cancelled") return "The walk was cancelled.";
  const quarter = quarterOf(walk);
  const percent = `${String(25 * quarter)} %`;
  if (quarter === 4) return `${percent}. The walk is done.`;
  return quarter === 0 ? `${percent}. The walk has been asked for.` : `${percent} of the walk is there.`;
}
