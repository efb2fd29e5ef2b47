/** Small copies of the pictures in model-service/atelier/styles, by the names of the styles that have them. */

const FILES = import.meta.glob<string>("../assets/styles/*.webp", { eager: true, query: "?url", import: "default" });

/** The URL of the picture whose style it is; undefined for a style without one. */
export function tileOf(style: string): string | undefined {
  return FILES[`../assets/styles/${style}.webp`];
}
