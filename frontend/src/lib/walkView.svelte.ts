/** The state of a walk's page: the newest version of the walk, connection problems, and announcements. */

import type { Walk } from "../api/client";
import { browserWith, watchWhileVisible } from "./browserEvents";
import { announcementOf, hasEnded, quarterOf } from "./progressText";
import { firstChanged, slotsOf } from "./slots";
import { cachedWalk, cacheWalk } from "./walkCache";
import { WalkWatcher, type Trouble } from "./walkWatcher";

const NOT_FOUND =
  "There is no walk at this address, or it is private. It may have been deleted, or the link has ended or is incomplete.";

export class WalkView {
  walk = $state.raw<Walk | null>(null);
  trouble = $state<Trouble>(null);
  /** Why the walk cannot be shown at all, or "". */
  refusal = $state("");
  /** For screen readers: changes at 0, 25, 50, 75 and 100%, and on failure or cancellation. */
  announcement = $state("");
  /** The frame that arrived last while the page was open. */
  newestFrame = $state<number | null>(null);
  readonly slots = $derived(this.walk ? slotsOf(this.walk) : []);
  readonly ended = $derived(this.walk !== null && hasEnded(this.walk));
  #announcedStep = "";

  /** link: the token of a link that opens a private walk. */
  constructor(
    readonly id: string,
    private readonly link?: string,
  ) {
    this.walk = cachedWalk(id);
  }

  /** Watch the walk until it has ended. Returns a function that stops this. */
  follow(): () => void {
    const watcher = new WalkWatcher(
      this.id,
      {
        onwalk: (walk) => {
          this.update(walk);
        },
        ontrouble: (trouble) => {
          this.trouble = trouble;
        },
        onrefused: (problem) => {
          // The API's own message for an unknown walk is written for programmers.
          this.refusal = problem.status === 404 ? NOT_FOUND : problem.message;
        },
      },
      browserWith(this.link),
    );
    watcher.start();
    const stopListening = watchWhileVisible(watcher);
    return () => {
      stopListening();
      watcher.stop();
    };
  }

  /** Show a version of the walk, unless a newer one is shown already. */
  update(walk: Walk): void {
    const before = this.walk;
    if (before && walk.revision < before.revision) return;
    this.newestFrame = firstChanged(before ? slotsOf(before) : [], slotsOf(walk)) ?? this.newestFrame;
    this.walk = walk;
    cacheWalk(walk);
    this.#announce(before, walk);
  }

  #announce(before: Walk | null, walk: Walk): void {
    const step = hasEnded(walk) ? walk.state : String(quarterOf(walk));
    if (step === this.#announcedStep) return;
    this.#announcedStep = step;
    // A walk that had ended before the page opened needs no announcement: the page itself shows it.
    if (before === null && hasEnded(walk)) return;
    this.announcement = announcementOf(walk);
  }
}
