/** Square, landscape and portrait pictures within the sizes that a model allows. Pure. */

import type { ModelCard } from "../api/client";

type Limits = Pick<ModelCard, "min_size" | "max_size" | "size_multiple">;
export type Shape = "square" | "landscape" | "portrait";

/** Width through height of a landscape. */
const LANDSCAPE = 3 / 2;

export const SHAPES: readonly { value: Shape; label: string; hint: string }[] = [
  { value: "square", label: "Square", hint: "As wide as high." },
  { value: "landscape", label: "Landscape", hint: "Wider than high." },
  { value: "portrait", label: "Portrait", hint: "Higher than wide." },
];

export function shapeOf(width: number, height: number): Shape {
  return width === height ? "square" : width > height ? "landscape" : "portrait";
}

/** The size of another shape with about as many pixels. Returns width and height. */
export function reshaped(shape: Shape, width: number, height: number, limits: Limits): [number, number] {
  if (shape === shapeOf(width, height)) return [width, height];
  if (shape !== "square" && width !== height) return [height, width];
  const side = Math.sqrt(width * height);
  if (shape === "square") return [nearestSize(side, limits), nearestSize(side, limits)];
  const short = nearestSize(side / Math.sqrt(LANDSCAPE), limits);
  const rounded = nearestSize(side * Math.sqrt(LANDSCAPE), limits);
  const long = rounded > short ? rounded : nearestSize(short + limits.size_multiple, limits);
  return shape === "landscape" ? [long, short] : [short, long];
}

/** The nearest size that is allowed. */
function nearestSize(size: number, { min_size: min, max_size: max, size_multiple: multiple }: Limits): number {
  const [least, most] = [Math.ceil(min / multiple), Math.floor(max / multiple)];
  return Math.min(most, Math.max(least, Math.round(size / multiple))) * multiple;
}
