/** What each slot of the frame strip shows, whatever the order in which frames arrive. Pure. */

import type { Walk } from "../api/client";
import { partOf } from "./walkUrl";

export interface Slot {
  frame: number;
  /** The frame itself, a probe from near it in the meantime, or nothing yet. */
  kind: "frame" | "probe" | "empty";
  url: string | null;
}

type Snapshot = Pick<Walk, "url" | "frames_ready" | "probes" | "spec">;

export function slotsOf({ url, frames_ready: ready, probes, spec }: Snapshot): Slot[] {
  const slots: Slot[] = Array.from({ length: spec.frames }, (_, frame) => ({ frame, kind: "empty", url: null }));
  for (const probe of probes) {
    if (slots[probe.frame]) slots[probe.frame] = { frame: probe.frame, kind: "probe", url: probe.url };
  }
  for (const frame of ready) {
    if (slots[frame]) slots[frame] = { frame, kind: "frame", url: partOf(url, `frames/${String(frame)}.png`) };
  }
  return slots;
}

/** The slot to show in place of a missing frame: the nearest one with a picture, the earlier of two equally near. */
export function nearestFilled(slots: readonly Slot[], frame: number): Slot | null {
  const filled = slots.filter((slot) => slot.url !== null);
  const distance = (slot: Slot) => Math.abs(slot.frame - frame);
  return filled.reduce<Slot | null>((best, slot) => (best && distance(best) <= distance(slot) ? best : slot), null);
}

/** The first slot whose picture differs between two snapshots; null if none does. */
export function firstChanged(before: readonly Slot[], after: readonly Slot[]): number | null {
  return after.find((slot) => slot.url !== null && slot.url !== before[slot.frame]?.url)?.frame ?? null;
}
