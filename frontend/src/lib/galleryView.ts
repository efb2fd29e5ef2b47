/** The gallery: which walks the visitor wants, the pages of them loaded so far, and what a card shows. Pure. */

import type { GalleryPage, Walk } from "../api/client";
import { frameCountOf, hasEnded, queueText } from "./progressText";
import { partOf } from "./walkUrl";

/** The API's limit. */
export const MAX_QUERY_LENGTH = 200;
export const PAGE_SIZE = 24;
/** Pages that load while the visitor scrolls; more load by a button. */
export const AUTOMATIC_PAGES = 3;

/** Which walks the visitor wants to see. */
export interface View {
  q: string;
  mine: boolean;
  /** The name of a model; "" for all of them. */
  model: string;
}

/** The part of a view that is loaded. next: the URL of the next page, null after the last. */
export interface LoadedWalks {
  walks: readonly Walk[];
  pages: number;
  next: string | null;
}

export interface Card {
  /** The URL of a still picture; null if there is none yet. */
  picture: string | null;
  /** The URL of a short film; null if there is none. */
  preview: string | null;
  /** How far the walk is; "" once it is done. */
  status: string;
}

export const NOTHING_LOADED: LoadedWalks = { walks: [], pages: 0, next: null };

/** The view in a URL's query: ?q=…&owner=me&model=… */
export function viewOf(query: string): View {
  const parameters = new URLSearchParams(query);
  return {
    q: normalizeQuery(parameters.get("q") ?? ""),
    mine: parameters.get("owner") === "me",
    model: parameters.get("model") ?? "",
  };
}

/** The query of a view's URL, without "?"; "" for all walks. */
export function queryOf({ q, mine, model }: View): string {
  return new URLSearchParams({ ...(q && { q }), ...(mine && { owner: "me" }), ...(model && { model }) }).toString();
}

/** Search words as they are sent to the API. */
export function normalizeQuery(typed: string): string {
  return typed.replace(/\s+/g, " ").trim().slice(0, MAX_QUERY_LENGTH);
}

/** With one more page. A walk that is there already keeps its place. */
export function appendPage(loaded: LoadedWalks, page: GalleryPage): LoadedWalks {
  const present = new Set(loaded.walks.map((walk) => walk.id));
  const added = page.walks.filter((walk) => !present.has(walk.id));
  return { walks: [...loaded.walks, ...added], pages: loaded.pages + 1, next: page.next };
}

/** The same walks in the same places, in their newest versions. */
export function updateWalks(loaded: LoadedWalks, newest: readonly Walk[]): LoadedWalks {
  const byId = new Map(newest.map((walk) => [walk.id, walk]));
  return { ...loaded, walks: loaded.walks.map((walk) => byId.get(walk.id) ?? walk) };
}

/** Whether one of the newest walks is still in progress. */
export function hasUnfinished(loaded: LoadedWalks): boolean {
  return loaded.walks.slice(0, PAGE_SIZE).some((walk) => !hasEnded(walk));
}

/** Unfinished walks that a newer first page lacks: the gallery shows no walk that has failed or was cancelled. */
export function withoutNews(loaded: LoadedWalks, newest: readonly Walk[]): Walk[] {
  const found = new Set(newest.map((walk) => walk.id));
  return loaded.walks.slice(0, PAGE_SIZE).filter((walk) => !hasEnded(walk) && !found.has(walk.id));
}

/** How the next page loads: not at all, while the visitor scrolls, or by a button. */
export function nextPage({ pages, next }: LoadedWalks): "none" | "automatic" | "button" {
  if (pages > 0 && next === null) return "none";
  return pages < AUTOMATIC_PAGES ? "automatic" : "button";
}

export function cardOf(walk: Walk): Card {
  const [first] = walk.frames_ready;
  const frame = first === undefined ? (walk.probes[0]?.url ?? null) : partOf(walk.url, `frames/${String(first)}.png`);
  return {
    picture: walk.films["poster.webp"] ?? frame,
    preview: walk.films["preview.mp4"] ?? null,
    status: statusOf(walk),
  };
}

/** The message for a view without walks. */
export function emptyMessage({ q, mine, model }: View): string {
  const made = model && " made with this model";
  if (q) return mine ? `None of your walks${made} match “${q}”.` : `No walks${made} match “${q}”.`;
  return mine ? `You have no walks${made} yet.` : `There are no public walks${made} yet.`;
}

function statusOf(walk: Walk): string {
  if (walk.state === "done") return "";
  if (walk.state === "failed") return "Failed";
  if (walk.state === "cancelled") return "Cancelled";
  if (walk.state === "waiting" && !walk.frames_ready.length) return queueText(walk.queue_position);
  return frameCountOf(walk);
}
