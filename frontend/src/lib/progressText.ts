/** The progress of a walk in words: one line for the page, and announcements for screen readers. Pure. */

import type { Walk } from "../api/client";
import { isBetween } from "./labels";

type Progress = Pick<
  Walk,
  "state" | "spec" | "seed" | "frames_ready" | "probes" | "round" | "rounds" | "queue_position" | "replicas_awake" | "seconds_left"
>;

type Pictures = Pick<Walk, "frames_ready" | "probes" | "spec">;

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

/** A rough duration: an estimate deserves no precision. */
export function roughly(seconds: number): string {
  if (seconds < 1) return "a moment";
  if (seconds < 100) return `about ${String(Math.round(seconds))} s`;
  return `about ${String(Math.round(seconds / 60))} min`;
}

/** One line that tells how far a walk is. */
export function progressOf(walk: Progress): string {
  switch (walk.state) {
    case "done":
      return "Done";
    case "failed":
      return `Failed after ${frameCountOf(walk)}`;
    case "cancelled":
      return `Cancelled after ${frameCountOf(walk)}`;
    case "filming":
      return `${frameCountOf(walk)} · Making the films`;
  }
  if (walk.replicas_awake === 0) return "Starting a GPU: this takes a few minutes";
  if (walk.state === "waiting") return queueText(walk.queue_position);
  const parts = [stepOf(walk), counted(walk.replicas_awake, "replica")];
  if (walk.seconds_left) parts.push(`${roughly(walk.seconds_left)} left`);
  return parts.join(" · ");
}

/** "Next in the queue", "4th in the queue". position: counted from 1. */
export function queueText(position: number | null): string {
  return position === null || position <= 1 ? "Next in the queue" : `${ordinal(position)} in the queue`;
}

/** What is being rendered: the seeds to choose from, the frames, or more pictures to choose better frames from. */
function stepOf(walk: Progress): string {
  if (walk.seed === null && isBetween(walk.spec)) return "Choosing the smoothest seed";
  if (picturesOf(walk) < walk.spec.frames || !walk.probes.length) return frameCountOf(walk);
  return `Improving the spacing: round ${String(walk.round)} of ${String(walk.rounds)}`;
}

/** "14 of 25 frames". */
export function frameCountOf(walk: Pictures): string {
  return `${String(picturesOf(walk))} of ${counted(walk.spec.frames, "frame")}`;
}

/** How many slots have a picture: a frame, or a probe before it is known which frames are best. */
function picturesOf({ frames_ready: ready, probes }: Pictures): number {
  return Math.max(ready.length, probes.length);
}

/** Which quarter of its pictures a walk has reached, 0 to 4. Four only once it is done. */
export function quarterOf(walk: Pictures & Pick<Walk, "state">): number {
  if (walk.state === "done") return 4;
  return Math.min(3, Math.floor((4 * picturesOf(walk)) / walk.spec.frames));
}

/** The announcement at each quarter, and at the end of a walk that was not finished. */
export function announcementOf(walk: Pictures & Pick<Walk, "state">): string {
  if (walk.state === "failed") return "The walk failed.";
  if (walk.state === "cancelled") return "The walk was cancelled.";
  const quarter = quarterOf(walk);
  const percent = `${String(25 * quarter)}%`;
  if (quarter === 4) return `${percent}. The walk is finished.`;
  return quarter === 0 ? `${percent}. The walk has been requested.` : `${percent} of the walk is ready.`;
}
