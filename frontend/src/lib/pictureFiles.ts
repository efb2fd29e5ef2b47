/** Files that the visitor has chosen for stops, until they are uploaded; and what the browser can show of them. */

import type { DraftStop } from "./draft";

const files = new WeakMap<DraftStop, File>();
/** URLs of small copies of uploaded pictures, by the id of the picture. */
const previews = new Map<string, string>();

export function keepFile(stop: DraftStop, file: File): void {
  files.set(stop, file);
}

export function fileOf(stop: DraftStop): File | undefined {
  return files.get(stop);
}

export function keepPreview(id: string, url: string): void {
  previews.set(id, url);
}

/** The URL of an uploaded picture: of its copy in this page, else of the file. Only its owner can read that. */
export function pictureUrl(id: string): string {
  return previews.get(id) ?? `/api/v1/pictures/${id}.png`;
}

/**
 * The first picture among files that were dropped or pasted. gifs: whether a GIF counts: it may be the film of a walk,
 * which some pages open.
 */
export function pictureIn(files: FileList | undefined, gifs = false): File | undefined {
  const fits = ({ type, name }: File) => type.startsWith("image/") || /\.hei[cf]$/i.test(name);
  return [...(files ?? [])].find((file) => fits(file) && (gifs || file.type !== "image/gif"));
}
