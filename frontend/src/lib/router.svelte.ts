/** Where the visitor is. Real links, the History API, and the place on a page kept for Back. */

import { tick } from "svelte";
import { isOurs, pageOf, type Page } from "./routes";
import { keepFor, keptFor } from "./pageState";

interface Entry {
  key: string;
  scroll: number;
}

let entry: Entry = { key: "", scroll: 0 };
// Where this visit was left. Not the entry's: a page that is still short scrolls by itself, and that is kept as well.
let left = 0;

const here = $state<{ page: Page; path: string; query: string; visit: string }>({
  page: { name: "new" },
  path: "/",
  query: "",
  visit: "",
});

/** The page shown, its path, its query (with "?" where there is one), and a name for this visit of it. */
export const place: Readonly<typeof here> = here;

/** Go to an address of ours. */
export async function go(href: string, { replace = false } = {}): Promise<void> {
  keepScroll();
  entry = { key: newKey(), scroll: 0 };
  if (replace) history.replaceState(entry, "", href);
  else history.pushState(entry, "", href);
  look();
  await settle();
}

/** Change the query of the address alone: no new visit, no scrolling. Such as a search while it is typed. */
export function setQuery(query: string): void {
  history.replaceState(entry, "", query ? `?${query}` : location.pathname);
  here.query = location.search;
}

/** Keep something for this visit of the page. */
export function remember(name: string, value: unknown): void {
  keepFor(entry.key, name, value);
}

/** What was kept on an earlier stay of the same visit. */
export function recall<T>(name: string): T | undefined {
  return keptFor(entry.key, name) as T | undefined;
}

/** Scroll to where the visitor was; for pages that are as long as before only once something has loaded. */
export async function restoreScroll(): Promise<void> {
  await tick();
  scrollTo(0, left);
}

/** Start listening. Returns what stops it. */
export function startRouter(): () => void {
  history.scrollRestoration = "manual";
  const known = history.state as Entry | null;
  entry = known?.key ? known : { key: newKey(), scroll: 0 };
  history.replaceState(entry, "");
  look();
  void restoreScroll();
  const heard = new AbortController();
  const { signal } = heard;
  addEventListener("popstate", onPop, { signal });
  addEventListener("scrollend", keepScroll, { signal });
  addEventListener("pagehide", keepScroll, { signal });
  document.addEventListener("click", onClick, { signal });
  return () => {
    heard.abort();
  };
}

function look(): void {
  left = entry.scroll;
  Object.assign(here, {
    page: pageOf(location.pathname),
    path: location.pathname,
    query: location.search,
    visit: entry.key,
  });
}

function keepScroll(): void {
  entry = { ...entry, scroll: scrollY };
  history.replaceState(entry, "");
}

function onPop(event: PopStateEvent): void {
  const state = event.state as Entry | null;
  entry = state?.key ? state : { key: newKey(), scroll: 0 };
  if (!state?.key) history.replaceState(entry, "");
  look();
  void settle();
}

function onClick(event: MouseEvent): void {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link?.href || !isOurs(event, link, location.origin)) return;
  event.preventDefault();
  // The same address again is no new entry.
  void go(link.href, { replace: link.href === location.href });
}

/** Once the new page stands: its place, and its heading for those who read by ear. */
async function settle(): Promise<void> {
  await restoreScroll();
  document.querySelector<HTMLElement>("main h1")?.focus({ preventScroll: true });
}

function newKey(): string {
  return Math.random().toString(36).slice(2);
}
