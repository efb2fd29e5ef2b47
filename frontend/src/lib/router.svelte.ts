/** The client-side router: real links, the History API, and the scroll position restored on Back. */

import { tick } from "svelte";
import { getPageState, setPageState } from "./pageState";
import { isInternal, pageOf, type Page } from "./routes";

interface Entry {
  key: string;
  scroll: number;
}

let entry: Entry = { key: "", scroll: 0 };
// The scroll position to restore. Kept apart from the entry: a page that is still short scrolls up by itself, and that
// position is saved in the entry as well.
let savedScroll = 0;
// Whether the visitor has come from another page of the gallery.
let moved = false;

const state = $state<{ page: Page; path: string; query: string; visit: string }>({
  page: { name: "new" },
  path: "/",
  query: "",
  visit: "",
});

/** The current page, its path, its query (with "?" if it has one), and a key for this visit of it. */
export const current: Readonly<typeof state> = state;

/** Go to an internal URL. */
export async function go(href: string, { replace = false } = {}): Promise<void> {
  saveScroll();
  entry = { key: newKey(), scroll: 0 };
  if (replace) history.replaceState(entry, "", href);
  else history.pushState(entry, "", href);
  moved = true;
  update();
  await settle();
}

/** Change only the query of the URL, without a new visit and without scrolling; for a search while it is typed. */
export function setQuery(query: string): void {
  history.replaceState(entry, "", query ? `?${query}` : location.pathname);
  state.query = location.search;
}

/** Save a value for this visit of the page. */
export function remember(name: string, value: unknown): void {
  setPageState(entry.key, name, value);
}

/** The value saved earlier in the same visit. */
export function recall<T>(name: string): T | undefined {
  return getPageState(entry.key, name) as T | undefined;
}

/** Restore the scroll position; also for pages that reach their full length only after loading something. */
export async function restoreScroll(): Promise<void> {
  await tick();
  scrollTo(0, savedScroll);
}

/** Start the router. Returns a function that stops it. */
export function startRouter(): () => void {
  history.scrollRestoration = "manual";
  const stored = history.state as Entry | null;
  entry = stored?.key ? stored : { key: newKey(), scroll: 0 };
  history.replaceState(entry, "");
  update();
  void restoreScroll();
  const listeners = new AbortController();
  const { signal } = listeners;
  addEventListener("popstate", onPop, { signal });
  addEventListener("scrollend", saveScroll, { signal });
  addEventListener("pagehide", saveScroll, { signal });
  document.addEventListener("click", onClick, { signal });
  return () => {
    listeners.abort();
  };
}

/** Attach to the heading of a page that loads late: what `settle` does for the others. */
export function arrive(heading: HTMLElement): void {
  if (moved) heading.focus({ preventScroll: true });
  void restoreScroll();
}

function update(): void {
  savedScroll = entry.scroll;
  Object.assign(state, {
    page: pageOf(location.pathname),
    path: location.pathname,
    query: location.search,
    visit: entry.key,
  });
}

function saveScroll(): void {
  entry = { ...entry, scroll: scrollY };
  history.replaceState(entry, "");
}

function onPop(event: PopStateEvent): void {
  const popped = event.state as Entry | null;
  entry = popped?.key ? popped : { key: newKey(), scroll: 0 };
  if (!popped?.key) history.replaceState(entry, "");
  moved = true;
  update();
  void settle();
}

function onClick(event: MouseEvent): void {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link?.href || !isInternal(event, link, location.origin)) return;
  event.preventDefault();
  // The same URL again adds no history entry.
  void go(link.href, { replace: link.href === location.href });
}

/** After a page change: restore the scroll position and focus the heading, for screen readers. */
async function settle(): Promise<void> {
  await restoreScroll();
  document.querySelector<HTMLElement>("main h1")?.focus({ preventScroll: true });
}

function newKey(): string {
  return Math.random().toString(36).slice(2);
}
