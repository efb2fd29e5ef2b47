import type { Snippet } from "svelte";
import type { Walk } from "../api/client";
import type { Slot } from "./slots";

/** What every player of a walk takes. */
export interface PlayerProps {
  walk: Walk;
  slots: readonly Slot[];
  /** The frame that arrived last. */
  newestFrame: number | null;
  /** The text beside the picture. */
  details: Snippet;
  /** The text beside the controls. */
  progress: Snippet;
  /** The frame that is shown, as nearly as the player can tell. */
  current: number;
}
