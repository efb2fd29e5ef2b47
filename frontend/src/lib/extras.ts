/** The extras of a walk in words: its depth map, its cut-outs, its masks. Pure. */

import type { Extra } from "../api/client";

/** What instances.json tells of an object. */
export interface Instance {
  label: string;
  score: number;
}

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
  return instances.map((one: Partial<Instance> | null) => ({ label: String(one?.label ?? ""), score: Number(one?.score ?? 0) }));
}

/** "cat, 93%"; "Object 2" as long as its label is unknown. */
export function instanceText(instance: Instance | undefined, number: number): string {
  if (!instance?.label) return `Object ${String(number)}`;
  return `${instance.label}, ${String(Math.round(100 * instance.score))}%`;
}
