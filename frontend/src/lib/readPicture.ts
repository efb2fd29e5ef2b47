/** Reads a picture that the visitor has chosen: what to upload of it, and a small copy to show meanwhile. */

import { Problem } from "../api/problem";

/** The limits of the API for pictures. */
const MAX_BYTES = 20_000_000;
const MAX_PIXELS = 40_000_000;
/** The API makes pictures no larger than this, so nothing is lost by doing so here. */
const LARGEST_PX = 2048;
const PREVIEW_PX = 1024;
const QUALITY = 0.95;

export const HEIC =
  "Your browser cannot read this HEIC photo. Save it as JPEG first, then choose that file.";
export const TOO_LARGE = "A picture can have at most 20 MB. Choose a smaller one.";
const TOO_MUCH = "Your browser has too little memory for this picture. Choose a smaller one.";
const NO_PICTURE = "This file is not a picture. Choose a JPEG, PNG, WebP, AVIF or GIF.";

export interface ReadPicture {
  /** What to upload. */
  content: Blob;
  /** The URL of a small copy; null if the browser cannot show the picture, which the API may read nevertheless. */
  preview: string | null;
}

/** Throws a Problem if the file cannot be used. */
export async function readPicture(file: File): Promise<ReadPicture> {
  const url = URL.createObjectURL(file);
  try {
    const image = await loaded(url);
    if (image) return { content: await contentOf(file, image), preview: await previewOf(image) };
  } finally {
    URL.revokeObjectURL(url);
  }
  if (isHeic(file)) throw new Problem(HEIC, 415);
  if (file.type && !file.type.startsWith("image/")) throw new Problem(NO_PICTURE, 415);
  if (file.size > MAX_BYTES) throw new Problem(TOO_LARGE, 413);
  return { content: file, preview: null };
}

/** Whether a file is a photo as iPhones keep them. Not every system has a type for it. */
export function isHeic({ name, type }: Pick<File, "name" | "type">): boolean {
  return /^image\/hei[cf]/.test(type) || /\.hei[cf]$/i.test(name);
}

/** The size that a picture is made smaller to; null if it can stay as it is. */
export function reducedSize(bytes: number, width: number, height: number): { width: number; height: number } | null {
  if (bytes <= MAX_BYTES && width * height <= MAX_PIXELS) return null;
  return fitted(width, height, LARGEST_PX);
}

/** The size that fits a picture into a square. */
export function fitted(width: number, height: number, side: number): { width: number; height: number } {
  const scale = Math.min(1, side / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

async function loaded(url: string): Promise<HTMLImageElement | null> {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return image.naturalWidth ? image : null;
  } catch {
    return null;
  }
}

async function contentOf(file: File, image: HTMLImageElement): Promise<Blob> {
  // A browser that can show a HEIC photo can also convert it.
  const size = isHeic(file)
    ? fitted(image.naturalWidth, image.naturalHeight, LARGEST_PX)
    : reducedSize(file.size, image.naturalWidth, image.naturalHeight);
  return size ? drawn(image, size) : file;
}

async function previewOf(image: HTMLImageElement): Promise<string> {
  return URL.createObjectURL(await drawn(image, fitted(image.naturalWidth, image.naturalHeight, PREVIEW_PX)));
}

/** A picture as a JPEG: upright, its first frame, on white where it is transparent, as the API does it. */
async function drawn(image: HTMLImageElement, { width, height }: { width: number; height: number }): Promise<Blob> {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const brush = canvas.getContext("2d");
  if (!brush) throw new Problem(TOO_MUCH, 413);
  brush.fillStyle = "#fff";
  brush.fillRect(0, 0, width, height);
  brush.imageSmoothingQuality = "high";
  brush.drawImage(image, 0, 0, width, height);
  const blob = await new Promise<Blob | null>((resolve) => {
    canvas.toBlob(resolve, "image/jpeg", QUALITY);
  });
  if (!blob) throw new Problem(TOO_MUCH, 413);
  return blob;
}
