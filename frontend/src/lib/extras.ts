/** The extras of a walk in words: its depth map, its cut-outs, its masks. Pure. */

import type { Crop, Extra } from "../api/client";

/** What instances.json tells of an object. box: x, y, width and height in pixels; null if it is damaged. */
export interface Instance {
  label: string;
  score: number;
  box: readonly number[] | null;
}

/** Width through height of the tile of an object. */
const TILE = 4 / 3;
/** How much larger than its object a tile is. */
const MARGIN = 1.15;

const LABELS: Readonly<Record<string, string>> = {
  "depth.png": "Depth map (PNG)",
  "cutout.png": "Foreground (PNG)",
  "instances.json": "Masks (JSON)",
};
const INSTANCE = /^instance-(\d+)\.png$/;

/** The cut-outs of objects among the extras, by their number from 1. */
export function cutOutsOf(extras: readonly Extra[]): { number: number; extra: Extra }[] {
  return extras
    .flatMap((extra) => {
      const number = INSTANCE.exec(extra.name)?.[1];
      return number ? [{ number: Number(number), extra }] : [];
    })
    .toSorted((one, other) => one.number - other.number);
}

/** The other extras, each with its label. */
export function filesOf(extras: readonly Extra[]): { label: string; extra: Extra }[] {
  return extras.filter(({ name }) => !INSTANCE.test(name)).map((extra) => ({ label: LABELS[extra.name] ?? extra.name, extra }));
}

/** The objects in instances.json; none if it is damaged. */
export function instancesIn(content: unknown): Instance[] {
  const { instances } = (content ?? {}) as { instances?: unknown };
  if (!Array.isArray(instances)) return [];
  return instances.map((one: Partial<Instance> | null) => ({
    label: String(one?.label ?? ""),
    score: Number(one?.score ?? 0),
    box: one?.box?.length === 4 && one.box.every(Number.isFinite) ? one.box : null,
  }));
}

/** The part of a picture that the tile of a box in it shows; it may reach beyond the picture. */
export function tileAround(box: readonly number[]): Crop {
  const [x = 0, y = 0, width = 1, height = 1] = box;
  const wide = MARGIN * Math.max(width, height * TILE, 1);
  const high = wide / TILE;
  return { x: x + (width - wide) / 2, y: y + (height - high) / 2, width: wide, height: high };
}

/** "cat, 93%"; "Object 2" as long as its label is unknown. */
export function instanceText(instance: Instance | undefined, number: number): string {
  if (!instance?.label) return `Object ${String(number)}`;
  return `${instance.label}, ${String(Math.round(100 * instance.score))}%`;
}
