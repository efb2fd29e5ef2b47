/** Which styles and which ways to a style the models of a deployment offer. Pure. */

import type { Model, Style } from "../api/client";
import type { KindDraft, Way } from "./kindDraft";
import { hasWays, modelsFor, type OtherKind } from "./kinds";

/** A style that a model offers. */
export interface OfferedStyle {
  model: string;
  style: Style;
}

/** The models that have styles: first those that are made for them, whatever a picture shows. */
export function modelsWithStyles(kind: OtherKind, models: readonly Model[]): Model[] {
  const able = modelsFor(kind, models).filter(({ styles }) => styles.length);
  return [...able.filter(isStyleNet), ...able.filter((model) => !isStyleNet(model))];
}

export function stylesOf(kind: OtherKind, models: readonly Model[]): OfferedStyle[] {
  return modelsWithStyles(kind, models).flatMap((model) => model.styles.map((style) => ({ model: model.name, style })));
}

/** The style that a draft has: the first one if it names none that is offered. */
export function styleIn({ style: name, model }: KindDraft, offered: readonly OfferedStyle[]): OfferedStyle | undefined {
  const named = offered.filter(({ style }) => style.name === name);
  return named.find((found) => found.model === model) ?? named[0] ?? offered[0];
}

/** The ways that the models of a deployment know. */
export function waysOf(kind: OtherKind, models: readonly Model[]): Way[] {
  const able = modelsFor(kind, models);
  return [
    ...(able.some(({ styles }) => styles.length) ? (["style"] as const) : []),
    ...(able.some(({ engine }) => engine === "diffusion") ? (["prompt"] as const) : []),
    ...(able.some(isStyleNet) ? (["picture"] as const) : []),
  ];
}

/** The models that the draft can choose from: those of a prompt, or of the whole kind. */
export function choicesOf(kind: OtherKind, draft: KindDraft, models: readonly Model[]): Model[] {
  const able = modelsFor(kind, models);
  if (!hasWays(kind)) return able;
  return draft.way === "prompt" ? able.filter(({ engine }) => engine === "diffusion") : [];
}

/** Whether a model takes styles from pictures. */
export function isStyleNet({ engine }: Model): boolean {
  return engine === "style";
}
