/**
 * Watches a walk until it has ended: by events, by polling where these keep breaking off, not at all while offline.
 * What it stands on is given to it, so that tests can break that.
 */

import type { Walk } from "../api/client";
import { Problem } from "../api/problem";
import { FRESH, heard, isPolling, lost, polled, waitMs, type Line } from "./connection";
import { hasEnded } from "./progressText";

export type Trouble = "offline" | "unreachable" | null;

/** The part of an EventSource that is needed. */
export interface Events {
  onwalk: (data: string) => void;
  /** gaveUp: the browser will not try again by itself. */
  onlost: (gaveUp: boolean) => void;
  close: () => void;
}

export interface World {
  open: (id: string) => Events;
  get: (id: string) => Promise<Walk>;
  later: (ms: number, what: () => void) => () => void;
  online: () => boolean;
}

export interface Listener {
  told: (walk: Walk) => void;
  trouble: (trouble: Trouble) => void;
  /** The walk cannot be watched at all: it is unknown, for example. */
  refused: (problem: Problem) => void;
}

export class Watch {
  #line: Line = FRESH;
  #events: Events | null = null;
  #cancelTimer: (() => void) | null = null;
  #over = false;
  /** Grows with each question: an answer to an earlier one than the last is late. */
  #turn = 0;

  constructor(
    private readonly id: string,
    private readonly listener: Listener,
    private readonly world: World,
  ) {}

  /** Ask once for how it stands, then watch. */
  start(): void {
    void this.#poll();
  }

  /** Something has changed: back online, awake after sleep, back on the page. The line gets a new chance. */
  wake(): void {
    if (this.#over) return;
    this.#line = FRESH;
    this.#hangUp();
    void this.#poll();
  }

  stop(): void {
    this.#over = true;
    this.#hangUp();
  }

  #connect(): void {
    if (this.#over || this.#events) return;
    if (isPolling(this.#line)) {
      void this.#poll();
      return;
    }
    const events = this.world.open(this.id);
    this.#events = events;
    events.onwalk = (data) => {
      this.#line = heard();
      this.#tell(JSON.parse(data) as Walk);
    };
    events.onlost = (gaveUp) => {
      this.#line = lost(this.#line);
      if (!this.world.online()) this.listener.trouble("offline");
      if (gaveUp || isPolling(this.#line)) this.#retry();
    };
  }

  async #poll(): Promise<void> {
    if (!this.world.online()) {
      this.listener.trouble("offline");
      this.#retry();
      return;
    }
    const turn = ++this.#turn;
    const late = () => this.#over || turn !== this.#turn;
    try {
      const walk = await this.world.get(this.id);
      if (late()) return;
      const polling = isPolling(this.#line);
      if (polling) this.#line = polled(this.#line);
      this.#tell(walk);
      if (polling) this.#retry();
      else this.#connect();
    } catch (thrown) {
      if (!late()) this.#failed(thrown);
    }
  }

  #failed(thrown: unknown): void {
    if (thrown instanceof Problem && thrown.status < 500 && thrown.status !== 429) {
      this.stop();
      this.listener.refused(thrown);
      return;
    }
    this.#line = lost(this.#line);
    this.listener.trouble(this.world.online() ? "unreachable" : "offline");
    // Whatever comes next begins with a question: events say nothing of why they do not come.
    this.#hangUp();
    this.#cancelTimer = this.world.later(waitMs(this.#line), () => void this.#poll());
  }

  #tell(walk: Walk): void {
    if (this.#over) return;
    this.listener.trouble(null);
    this.listener.told(walk);
    if (hasEnded(walk)) this.stop();
  }

  #retry(): void {
    this.#hangUp();
    if (this.#over) return;
    this.#cancelTimer = this.world.later(waitMs(this.#line), () => {
      if (isPolling(this.#line) || !this.world.online()) void this.#poll();
      else this.#connect();
    });
  }

  #hangUp(): void {
    this.#events?.close();
    this.#events = null;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }
}
