/** A model in words: its name, its licence and its speed. Pure. */

import type { Model } from "../api/client";

/** The title of a model in its card; its name if it has none. */
export function titleOfModel({ card }: Pick<Model, "card">): string {
  return card.about.title || card.model;
}

/** The title of a walk's model where a visitor has to tell models apart; "" if there is no other model. */
export function modelLabel(models: readonly Model[], name: string): string {
  if (models.every((model) => model.name === name)) return "";
  const found = models.find((model) => model.name === name);
  return found ? titleOfModel(found) : name;
}

export const ASLEEP = "Asleep: it starts within a few minutes.";

/** Whether walks have to wait until a replica starts. */
export function isAsleep({ replicas }: Pick<Model, "replicas">): boolean {
  return replicas.awake === 0;
}

/** "about 2 s a picture", or that no replica is awake; "" if the speed is not known yet. */
export function speedText(model: Pick<Model, "replicas" | "frame_seconds">): string {
  const { frame_seconds: seconds } = model;
  if (isAsleep(model)) return "asleep";
  if (seconds === null) return "";
  if (seconds < 0.95) return "less than 1 s a picture";
  return `about ${String(Math.round(seconds))} s a picture`;
}

/** "Licence: CC-BY-NC-4.0, not for commercial use."; "" if the card does not say it. */
export function licenceText({ license, commercial }: Model["card"]["about"]): string {
  const parts = [license && `Licence: ${license.replace(/\.$/, "")}`, commercial === false && "not for commercial use"];
  const text = parts.filter(Boolean).join(", ");
  return text && `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
