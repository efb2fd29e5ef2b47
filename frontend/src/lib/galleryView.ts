/** The wall: which walks are wanted, the pages of them that have come, and what a card shows of each. Pure. */

import type { GalleryPage, Walk } from "../api/client";
import { hasEnded, ordinal } from "./progressText";

/** As the api has it. */
export const MOST_WORDS = 200;
export const PAGE = 24;
/** Pages that come by themselves; then the visitor is asked. */
export const BY_THEMSELVES = 3;

/** What the visitor wants to see. */
export interface View {
  q: string;
  mine: boolean;
}

/** What has come of a view. next: the url of the page after, null after the last. */
export interface Wall {
  walks: readonly Walk[];
  pages: number;
  next: string | null;
}

export interface Card {
  /** Where the picture is; null where there is none yet. */
  picture: string | null;
  /** The film for those who linger; null where there is none. */
  preview: string | null;
  /** How far it is; "" once it is done. */
  says: string;
}

export const BARE: Wall = { walks: [], pages: 0, next: null };

/** A view as an address asks for it: ?q=…&owner=me */
export function viewOf(query: string): View {
  const asked = new URLSearchParams(query);
  return { q: wordsOf(asked.get("q") ?? ""), mine: asked.get("owner") === "me" };
}

/** The query of a view's address, without "?"; "" for the whole wall. */
export function queryOf({ q, mine }: View): string {
  return new URLSearchParams({ ...(q ? { q } : {}), ...(mine ? { owner: "me" } : {}) }).toString();
}

/** Words as they are searched for. */
export function wordsOf(typed: string): string {
  return typed.replace(/\s+/g, " ").trim().slice(0, MOST_WORDS);
}

/** A page more. A walk that hangs already stays where it is. */
export function hang(wall: Wall, page: GalleryPage): Wall {
  const hanging = new Set(wall.walks.map((walk) => walk.id));
  const fresh = page.walks.filter((walk) => !hanging.has(walk.id));
  return { walks: [...wall.walks, ...fresh], pages: wall.pages + 1, next: page.next };
}

/** The same walks, in the same places, as they are now. */
export function renewed(wall: Wall, now: readonly Walk[]): Wall {
  const newer = new Map(now.map((walk) => [walk.id, walk]));
  return { ...wall, walks: wall.walks.map((walk) => newer.get(walk.id) ?? walk) };
}

/** Whether one of the newest walks is still on its way. */
export function isGrowing(wall: Wall): boolean {
  return wall.walks.slice(0, PAGE).some((walk) => !hasEnded(walk));
}

/** Who asks for the next page: nobody, the wall itself, or the visitor. */
export function whoAsks({ pages, next }: Wall): "nobody" | "wall" | "visitor" {
  if (pages > 0 && next === null) return "nobody";
  return pages < BY_THEMSELVES ? "wall" : "visitor";
}

export function cardOf(walk: Walk): Card {
  const [first] = walk.landed;
  const frame = first === undefined ? (walk.probes[0]?.url ?? null) : `${walk.url}/frames/${String(first)}.png`;
  return {
    picture: walk.films["poster.webp"] ?? frame,
    preview: walk.films["preview.mp4"] ?? null,
    says: farOf(walk),
  };
}

/** What stands where no walk does. */
export function emptyOf({ q, mine }: View): string {
  if (q) return mine ? `None of your walks passes through “${q}”.` : `No walk passes through “${q}”.`;
  return mine ? "You have not walked yet." : "Nothing hangs here yet.";
}

function farOf({ state, landed, spec, place_in_line: place }: Walk): string {
  if (state === "done") return "";
  if (state === "failed") return "Failed";
  if (state === "cancelled") return "Cancelled";
  if (state === "waiting" && !landed.length) return place && place > 1 ? `${ordinal(place)} in line` : "Next in line";
  return `${String(landed.length)} of ${String(spec.frames)}`;
}
