/** The walks that the gallery page shows: loads pages, refreshes them, and reports errors. */

import { cursorOf, getGallery, getWalk, type GalleryPage } from "../api/client";
import { messageOf } from "../api/problem";
import {
  appendPage, NOTHING_LOADED, PAGE_SIZE, queryOf, updateWalks, withoutNews, type LoadedWalks, type View,
} from "./galleryView";
import { cacheWalk } from "./walkCache";

export class GalleryList {
  /** The walks shown; during a new search still those of the search before. */
  loaded = $state.raw<LoadedWalks>(NOTHING_LOADED);
  /** The view that `loaded` belongs to; null before the first page. */
  view = $state.raw<View | null>(null);
  loading = $state(false);
  /** Why the last page failed to load, or "". */
  error = $state("");
  // Counts requests, so that only the response to the latest one is used.
  #latest = 0;

  constructor(kept?: { loaded: LoadedWalks; view: View }) {
    if (kept) ({ loaded: this.loaded, view: this.view } = kept);
  }

  /** Load the first page of a view. If that fails, the list is empty. */
  async open(view: View): Promise<void> {
    await this.#load(view, (page) => {
      this.view = view;
      this.loaded = appendPage(NOTHING_LOADED, page);
    });
  }

  /** Load the next page of the current view. */
  async more(): Promise<void> {
    const { view, loaded } = this;
    if (this.loading || !view || !loaded.next) return;
    await this.#load(view, (page) => (this.loaded = appendPage(this.loaded, page)), cursorOf(loaded.next));
  }

  /** Update the newest walks. Errors are ignored: the visitor did not request this. */
  async refresh(): Promise<void> {
    const { view } = this;
    if (!view || this.loading) return;
    const page = await getGallery(parametersOf(view)).catch(() => null);
    if (!page) return;
    const others = await Promise.all(withoutNews(this.loaded, page.walks).map(({ id }) => getWalk(id).catch(() => null)));
    if (!this.view || queryOf(this.view) !== queryOf(view)) return;
    this.loaded = updateWalks(this.loaded, [...page.walks, ...others.filter((walk) => walk !== null)]);
  }

  async #load(view: View, onpage: (page: GalleryPage) => void, before?: number): Promise<void> {
    const request = ++this.#latest;
    this.loading = true;
    this.error = "";
    try {
      const page = await getGallery(parametersOf(view, before));
      if (request !== this.#latest) return;
      page.walks.forEach(cacheWalk);
      onpage(page);
    } catch (thrown) {
      if (request !== this.#latest) return;
      this.error = messageOf(thrown);
      // The walks still shown belong to another search.
      if (before === undefined) [this.loaded, this.view] = [NOTHING_LOADED, null];
    } finally {
      if (request === this.#latest) this.loading = false;
    }
  }
}

function parametersOf(view: View, before?: number): Parameters<typeof getGallery>[0] {
  return {
    ...(view.q ? { q: view.q } : {}),
    ...(view.mine ? { owner: "me" as const } : {}),
    ...(view.model ? { model: view.model } : {}),
    ...(before === undefined ? {} : { before }),
    limit: PAGE_SIZE,
  };
}
