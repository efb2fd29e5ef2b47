/** Reads the spec of a walk from one of its films (GIF, MP4, WebP or JPEG), where the API has written it. Pure. */

import type { BetweenSpec, OtherSpec } from "../api/client";

/** A film's metadata: JSON of another origin, of which only the parts that every walk needs are checked. */
export type FilmSpec = Pick<BetweenSpec, "stops" | "frames" | "seed" | "spacing" | "model" | "revision">;

const EXIF = "Exif\0\0";
const EXIF_IFD = 0x8769;
const USER_COMMENT = 0x9286;
/** Where an MP4 has its comment: boxes, each inside the one before. */
const COMMENT_BOXES = ["moov", "udta", "meta", "ilst", "\xa9cmt", "data"];

/** The spec in a film; null if the file has none, or is damaged or no film at all. */
export function specIn(film: ArrayBuffer): FilmSpec | OtherSpec | null {
  try {
    const comment = commentIn(new DataView(film));
    const spec: unknown = comment === null ? null : JSON.parse(comment);
    if (isOther(spec)) return spec;
    // The first releases had no `spacing`: all their walks were uniform, as in the API's walks/spec.py.
    return isSpec(spec) ? { ...spec, spacing: spec.spacing ?? "uniform" } : null;
  } catch {
    // A length in the file leads past its end, or its comment is no JSON.
    return null;
  }
}

function isSpec(value: unknown): value is Omit<FilmSpec, "spacing"> & Partial<FilmSpec> {
  const { stops, frames, seed } = (value ?? {}) as Record<string, unknown>;
  const prompts = Array.isArray(stops) && stops.length >= 2 && stops.every(isStop);
  return prompts && typeof frames === "number" && (typeof seed === "number" || seed === "auto");
}

/** Whether a spec is that of a walk of a picture or a clip. */
function isOther(value: unknown): value is OtherSpec {
  const { kind, picture, clip, width, height } = (value ?? {}) as Record<string, unknown>;
  const sized = typeof width === "number" && typeof height === "number";
  if (kind === "clip") return sized && typeof clip === "string";
  return sized && ["into", "restyle", "apart"].includes(String(kind)) && isPicture(picture);
}

/** A prompt, or a picture with its part. */
function isStop(value: unknown): boolean {
  return typeof value === "string" || (isPicture(value) && typeof (value as { prompt?: unknown }).prompt === "string");
}

function isPicture(value: unknown): boolean {
  const { picture, crop } = (value ?? {}) as Record<string, unknown>;
  return typeof picture === "string" && typeof crop === "object" && crop !== null;
}

function commentIn(file: DataView): string | null {
  if (file.byteLength < 16) return null;
  if (latin(file, 0, 4) === "GIF8") return gifComment(file);
  if (latin(file, 4, 4) === "ftyp") return mp4Comment(file, 0, file.byteLength, COMMENT_BOXES);
  if (latin(file, 0, 4) === "RIFF" && latin(file, 8, 4) === "WEBP") return webpComment(file);
  return file.getUint16(0) === 0xffd8 ? jpegComment(file) : null;
}

/** The first comment; before it there can be other extensions and pictures (GIF89a, sections 20 to 26). */
function gifComment(file: DataView): string | null {
  let at = 13 + colourTableSize(file.getUint8(10));
  for (;;) {
    const kind = file.getUint8(at);
    if (kind === 0x21 && file.getUint8(at + 1) === 0xfe) return subBlockText(file, at + 2);
    if (kind === 0x21) at = endOfSubBlocks(file, at + 2);
    else if (kind === 0x2c) at = endOfSubBlocks(file, at + 11 + colourTableSize(file.getUint8(at + 9)));
    else return null;
  }
}

function colourTableSize(flags: number): number {
  return flags & 0x80 ? 3 * (2 << (flags & 7)) : 0;
}

/** Sub-blocks come each after its length, and a length of 0 ends them. */
function endOfSubBlocks(file: DataView, start: number): number {
  let at = start;
  for (let length = file.getUint8(at); length; length = file.getUint8(at)) at += 1 + length;
  return at + 1;
}

function subBlockText(file: DataView, start: number): string {
  const text = new TextDecoder();
  let read = "";
  for (let at = start, length = file.getUint8(at); length; length = file.getUint8(at)) {
    read += text.decode(new Uint8Array(file.buffer, at + 1, length), { stream: true });
    at += 1 + length;
  }
  return read;
}

/** The first box of a path between two positions (ISO/IEC 14496-12). */
function mp4Comment(file: DataView, start: number, end: number, [wanted = "", ...inner]: readonly string[]): string | null {
  for (let at = start; at + 8 <= end; ) {
    const short = file.getUint32(at);
    const header = short === 1 ? 16 : 8;
    const size = short === 1 ? Number(file.getBigUint64(at + 8)) : short || end - at;
    if (size < header) return null;
    if (latin(file, at + 4, 4) === wanted) {
      // After the header, `meta` has a version and flags, and `data` a type and a locale.
      if (!inner.length) return utf8(file, at + header + 8, size - header - 8);
      return mp4Comment(file, at + header + (wanted === "meta" ? 4 : 0), Math.min(at + size, end), inner);
    }
    at += size;
  }
  return null;
}

function webpComment(file: DataView): string | null {
  for (let at = 12; at + 8 <= file.byteLength; ) {
    const size = file.getUint32(at + 4, true);
    if (latin(file, at, 4) === "EXIF") return exifComment(file, at + 8 + (latin(file, at + 8, 6) === EXIF ? 6 : 0));
    at += 8 + size + (size % 2);
  }
  return null;
}

/** Segments up to the one with Exif, before the picture itself. */
function jpegComment(file: DataView): string | null {
  for (let at = 2; file.getUint8(at) === 0xff && file.getUint8(at + 1) !== 0xda; at += 2 + file.getUint16(at + 2)) {
    if (file.getUint8(at + 1) === 0xe1 && latin(file, at + 4, 6) === EXIF) return exifComment(file, at + 10);
  }
  return null;
}

/** The UserComment of Exif data, after the 8 bytes that name its character code (Exif 2.3, section 4.6.5). */
function exifComment(file: DataView, start: number): string | null {
  const little = file.getUint16(start) === 0x4949;
  const exif = entry(file, start + file.getUint32(start + 4, little), EXIF_IFD, little);
  if (exif === null) return null;
  const comment = entry(file, start + file.getUint32(exif + 8, little), USER_COMMENT, little);
  if (comment === null) return null;
  const at = start + file.getUint32(comment + 8, little);
  const length = file.getUint32(comment + 4, little) - 8;
  const code = latin(file, at, 8);
  if (code === "UNICODE\0") return decoded(file, at + 8, length, little ? "utf-16le" : "utf-16be");
  return code === "ASCII\0\0\0" ? utf8(file, at + 8, length) : null;
}

/** The position of the entry with a tag in a directory; null if there is none. */
function entry(file: DataView, directory: number, tag: number, little: boolean): number | null {
  const count = file.getUint16(directory, little);
  for (let number = 0; number < count; number++) {
    const at = directory + 2 + 12 * number;
    if (file.getUint16(at, little) === tag) return at;
  }
  return null;
}

function latin(file: DataView, at: number, length: number): string {
  return String.fromCharCode(...Array.from({ length }, (_, index) => file.getUint8(at + index)));
}

function utf8(file: DataView, at: number, length: number): string {
  return decoded(file, at, length, "utf-8");
}

function decoded(file: DataView, at: number, length: number, encoding: string): string {
  return new TextDecoder(encoding).decode(new Uint8Array(file.buffer, at, length));
}
