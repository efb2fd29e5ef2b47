/**
 * Watches a walk until it has ended: by server-sent events, by polling if these keep failing or the browser has enough
 * of them, not at all while offline or out of sight. Its environment is injected, so that tests can make it fail.
 */

import type { Walk } from "../api/client";
import { Problem } from "../api/problem";
import {
  afterEvent, afterLoss, afterPoll, isPolling, NEW_CONNECTION, retryDelayMs, WITHOUT_EVENTS, type Connection,
} from "./connection";
import { hasEnded } from "./progressText";

export type Trouble = "offline" | "unreachable" | null;

/** The part of an EventSource that is needed. */
export interface EventStream {
  onwalk: (data: string) => void;
  /** gaveUp: the browser will not reconnect by itself. */
  onlost: (gaveUp: boolean) => void;
  /** The browser has as many streams as it may have. */
  onfull: () => void;
  close: () => void;
}

export interface Environment {
  openEvents: (id: string) => EventStream;
  getWalk: (id: string) => Promise<Walk>;
  /** Start a timer. Returns a function that cancels it. */
  after: (ms: number, callback: () => void) => () => void;
  isOnline: () => boolean;
  /** Whether the page is in sight. A page in a background tab is not. */
  isVisible: () => boolean;
}

export interface Listener {
  onwalk: (walk: Walk) => void;
  ontrouble: (trouble: Trouble) => void;
  /** The walk cannot be watched at all, for example because it does not exist. */
  onrefused: (problem: Problem) => void;
}

export class WalkWatcher {
  #connection: Connection = NEW_CONNECTION;
  #events: EventStream | null = null;
  #cancelTimer: (() => void) | null = null;
  #stopped = false;
  /** Counts requests, so that only the response to the latest one is used. */
  #latest = 0;

  constructor(
    private readonly id: string,
    private readonly listener: Listener,
    private readonly environment: Environment,
  ) {}

  /** Fetch the walk once, then watch it. */
  start(): void {
    void this.#poll();
  }

  /** Let go of the connection while the page is out of sight: other pages need it. `reconnect` takes it up again. */
  pause(): void {
    this.#disconnect();
  }

  /** Start over after a change of network, sleep or tab, with earlier losses forgotten. */
  reconnect(): void {
    if (this.#stopped) return;
    this.#connection = NEW_CONNECTION;
    this.#disconnect();
    void this.#poll();
  }

  stop(): void {
    this.#stopped = true;
    this.#disconnect();
  }

  #connect(): void {
    if (!this.#isActive() || this.#events) return;
    if (isPolling(this.#connection)) {
      void this.#poll();
      return;
    }
    const events = this.environment.openEvents(this.id);
    this.#events = events;
    events.onwalk = (data) => {
      this.#connection = afterEvent();
      this.#publish(JSON.parse(data) as Walk);
    };
    events.onlost = (gaveUp) => {
      this.#connection = afterLoss(this.#connection);
      if (!this.environment.isOnline()) this.listener.ontrouble("offline");
      if (gaveUp || isPolling(this.#connection)) this.#retry();
    };
    events.onfull = () => {
      this.#connection = WITHOUT_EVENTS;
      this.#retry();
    };
  }

  async #poll(): Promise<void> {
    if (!this.environment.isOnline()) {
      this.listener.ontrouble("offline");
      this.#retry();
      return;
    }
    const request = ++this.#latest;
    const isStale = () => this.#stopped || request !== this.#latest;
    try {
      const walk = await this.environment.getWalk(this.id);
      if (isStale()) return;
      const polling = isPolling(this.#connection);
      if (polling) this.#connection = afterPoll(this.#connection);
      this.#publish(walk);
      if (polling) this.#retry();
      else this.#connect();
    } catch (thrown) {
      if (!isStale()) this.#failed(thrown);
    }
  }

  #failed(thrown: unknown): void {
    if (thrown instanceof Problem && thrown.status < 500 && thrown.status !== 429) {
      this.stop();
      this.listener.onrefused(thrown);
      return;
    }
    this.#connection = afterLoss(this.#connection);
    this.listener.ontrouble(this.environment.isOnline() ? "unreachable" : "offline");
    // The next attempt is always a request: an event stream does not tell why it fails.
    this.#disconnect();
    this.#later(() => void this.#poll());
  }

  #publish(walk: Walk): void {
    if (this.#stopped) return;
    this.listener.ontrouble(null);
    this.listener.onwalk(walk);
    if (hasEnded(walk)) this.stop();
  }

  #retry(): void {
    this.#disconnect();
    this.#later(() => {
      if (isPolling(this.#connection) || !this.environment.isOnline()) void this.#poll();
      else this.#connect();
    });
  }

  #later(attempt: () => void): void {
    if (this.#isActive()) this.#cancelTimer = this.environment.after(retryDelayMs(this.#connection), attempt);
  }

  #isActive(): boolean {
    return !this.#stopped && this.environment.isVisible();
  }

  #disconnect(): void {
    this.#events?.close();
    this.#events = null;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }
}
