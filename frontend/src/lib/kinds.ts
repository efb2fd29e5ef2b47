/** The kinds of walks, the pages that make them, and the models that can. Pure. */

import type { Kind, Model } from "../api/client";

/** The kinds that start with a picture or a clip. */
export type OtherKind = Exclude<Kind, "between">;

/** Width through height of a portrait. */
export const PORTRAIT = 3 / 4;

/** In the order of the gallery. */
export const KINDS: readonly { kind: Kind; label: string }[] = [
  { kind: "between", label: "Between two pictures" },
  { kind: "into", label: "Into a picture" },
  { kind: "restyle", label: "Restyle" },
  { kind: "clip", label: "Along a clip" },
  { kind: "apart", label: "Take apart" },
];

/** The path of the page that makes walks of a kind. */
export function pathOf(kind: Kind): string {
  return kind === "between" ? "/" : `/new/${kind}`;
}

/** The models that can make walks of a kind, in their order. */
export function modelsFor(kind: Kind, models: readonly Model[]): Model[] {
  return models.filter((model) => model.kinds.includes(kind));
}

/** Whether walks of a kind have a style. */
export function hasWays(kind: Kind): boolean {
  return kind === "restyle" || kind === "clip";
}
