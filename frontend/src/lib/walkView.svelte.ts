/** One walk as its page shows it: the newest snapshot, what is wrong with the line, what is announced. */

import type { Walk } from "../api/client";
import { known, see } from "./walkCache";
import { newest, slotsOf } from "./slots";
import { announcementOf, hasEnded, quarterOf } from "./progressText";
import { Watch, type Trouble } from "./walkWatcher";
import { browser, wakeWithBrowser } from "./browserEvents";

const UNKNOWN = "No walk has this address. It may have been taken down, or the link is cut short.";

export class WalkView {
  walk = $state.raw<Walk | null>(null);
  trouble = $state<Trouble>(null);
  refused = $state("");
  /** For ears: at 0, 25, 50, 75, 100 % and at a bad end alone. */
  announced = $state("");
  /** The slot that filled last while we looked. */
  fresh = $state<number | null>(null);
  readonly slots = $derived(this.walk ? slotsOf(this.walk) : []);
  readonly ended = $derived(this.walk !== null && hasEnded(this.walk));
  #said = "";

  constructor(readonly id: string) {
    this.walk = known(id);
  }

  /** Watch until it has ended. Returns what stops that. */
  follow(): () => void {
    const watch = new Watch(
      this.id,
      {
        told: (walk) => {
          this.take(walk);
        },
        trouble: (trouble) => {
          this.trouble = trouble;
        },
        refused: (problem) => {
          // The api's own sentence speaks to those who write calls.
          this.refused = problem.status === 404 ? UNKNOWN : problem.message;
        },
      },
      browser,
    );
    watch.start();
    const sleep = wakeWithBrowser(watch);
    return () => {
      sleep();
      watch.stop();
    };
  }

  /** A snapshot; older ones than what is shown are late, and left out. */
  take(walk: Walk): void {
    const before = this.walk;
    if (before && walk.revision < before.revision) return;
    this.fresh = newest(before ? slotsOf(before) : [], slotsOf(walk)) ?? this.fresh;
    this.walk = walk;
    see(walk);
    this.#announce(before, walk);
  }

  #announce(before: Walk | null, walk: Walk): void {
    const step = hasEnded(walk) ? walk.state : String(quarterOf(walk));
    if (step === this.#said) return;
    this.#said = step;
    // Who opens a walk that ended long ago is told by the page itself.
    if (before === null && hasEnded(walk)) return;
    this.announced = announcementOf(walk);
  }
}
