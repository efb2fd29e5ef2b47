/** A clip in words, and which files can be one. Pure. */

import type { Clip } from "../api/client";
import { counted } from "./progressText";

/** The first clip among files that were dropped or pasted. Not every system has a type for it. */
export function clipIn(files: FileList | undefined): File | undefined {
  return [...(files ?? [])].find(({ type, name }) => type.startsWith("video/") || /\.(mp4|m4v|mov|webm)$/i.test(name));
}

/** "3.2 s · 480 × 270 px · 96 frames · with sound". */
export function clipText({ seconds, width, height, frames, has_sound: sound }: Clip): string {
  const size = `${String(width)} × ${String(height)} px`;
  return [`${seconds.toFixed(1)} s`, size, counted(frames, "frame"), sound ? "with sound" : "without sound"].join(" · ");
}
