/** What each of a walk's reserved slots shows. Pure: a snapshot in, slots out, in whatever order frames landed. */

import type { Walk } from "../api/client";

export interface Slot {
  frame: number;
  /** What to show there: the frame, a probe from near it meanwhile, or nothing yet. */
  kind: "frame" | "probe" | "empty";
  url: string | null;
}

type Snapshot = Pick<Walk, "url" | "landed" | "probes" | "spec">;

export function slotsOf({ url, landed, probes, spec }: Snapshot): Slot[] {
  const slots: Slot[] = Array.from({ length: spec.frames }, (_, frame) => ({ frame, kind: "empty", url: null }));
  for (const probe of probes) {
    if (slots[probe.frame]) slots[probe.frame] = { frame: probe.frame, kind: "probe", url: probe.url };
  }
  for (const frame of landed) {
    if (slots[frame]) slots[frame] = { frame, kind: "frame", url: `${url}/frames/${String(frame)}.png` };
  }
  return slots;
}

/** The slot that stands in for a frame which is not there yet: the nearest that shows anything, the earlier of two. */
export function nearest(slots: readonly Slot[], frame: number): Slot | null {
  const shown = slots.filter((slot) => slot.url !== null);
  const away = (slot: Slot) => Math.abs(slot.frame - frame);
  return shown.reduce<Slot | null>((best, slot) => (best && away(best) <= away(slot) ? best : slot), null);
}

/** The slot that came to show something else last between two snapshots, the first of several; null where none did. */
export function newest(before: readonly Slot[], after: readonly Slot[]): number | null {
  return after.find((slot) => slot.url !== null && slot.url !== before[slot.frame]?.url)?.frame ?? null;
}
