/** The wall while it is looked at: what hangs, what is on its way, what went wrong. */

import { getGallery, cursorOf, type GalleryPage } from "../api/client";
import { sentenceOf } from "../api/problem";
import { BARE, hang, PAGE, queryOf, renewed, type View, type Wall } from "./galleryView";
import { see } from "./walkCache";

export class Hanging {
  /** What is shown; during a new search still what was shown before. */
  wall = $state.raw<Wall>(BARE);
  /** The view that `wall` is of; null before the first page. */
  view = $state.raw<View | null>(null);
  loading = $state(false);
  /** Why the last page did not come, as a sentence, or "". */
  trouble = $state("");
  // Answers to what is no longer wanted are let go.
  #asked = 0;

  constructor(kept?: { wall: Wall; view: View }) {
    if (kept) ({ wall: this.wall, view: this.view } = kept);
  }

  /** The first page of a view. Where it does not come, nothing hangs. */
  async open(view: View): Promise<void> {
    await this.#take(view, (page) => {
      this.view = view;
      this.wall = hang(BARE, page);
    });
  }

  /** The next page of what is shown. */
  async more(): Promise<void> {
    const { view, wall } = this;
    if (this.loading || !view || !wall.next) return;
    await this.#take(view, (page) => (this.wall = hang(this.wall, page)), cursorOf(wall.next));
  }

  /** The newest walks as they are now. What does not come is left as it is: nobody asked for it. */
  async renew(): Promise<void> {
    const { view } = this;
    if (!view || this.loading) return;
    const page = await getGallery(asked(view)).catch(() => null);
    if (!page || !this.view || queryOf(this.view) !== queryOf(view)) return;
    this.wall = renewed(this.wall, page.walks);
  }

  async #take(view: View, hung: (page: GalleryPage) => void, before?: number): Promise<void> {
    const mine = ++this.#asked;
    this.loading = true;
    this.trouble = "";
    try {
      const page = await getGallery(asked(view, before));
      if (mine !== this.#asked) return;
      page.walks.forEach(see);
      hung(page);
    } catch (thrown) {
      if (mine !== this.#asked) return;
      this.trouble = sentenceOf(thrown);
      // What hangs there is not what was asked for.
      if (before === undefined) [this.wall, this.view] = [BARE, null];
    } finally {
      if (mine === this.#asked) this.loading = false;
    }
  }
}

function asked(view: View, before?: number): Parameters<typeof getGallery>[0] {
  return {
    ...(view.q ? { q: view.q } : {}),
    ...(view.mine ? { owner: "me" as const } : {}),
    ...(before === undefined ? {} : { before }),
    limit: PAGE,
  };
}
