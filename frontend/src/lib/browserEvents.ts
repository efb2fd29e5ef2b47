/** What a WalkWatcher needs of the browser: event streams, timers, and news of network, sleep and tab changes. */

import { getWalk } from "../api/client";
import type { Environment, EventStream, WalkWatcher } from "./walkWatcher";

/** A page that was hidden for longer checks its connection: sleep can break it without an error event. */
const STALE_AFTER_MS = 30_000;

export const browser: Environment = {
  openEvents: (id) => {
    const source = new EventSource(`/api/v1/walks/${id}/events`);
    const stream: EventStream = {
      onwalk: () => undefined,
      onlost: () => undefined,
      close: () => {
        source.close();
      },
    };
    source.addEventListener("walk", (event: MessageEvent<string>) => {
      stream.onwalk(event.data);
    });
    source.addEventListener("error", () => {
      stream.onlost(source.readyState === EventSource.CLOSED);
    });
    return stream;
  },
  getWalk,
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => {
      clearTimeout(timer);
    };
  },
  isOnline: () => navigator.onLine,
};

/** Reconnect a watcher when the network, the machine or the page comes back. Returns a function that stops this. */
export function reconnectOnWake(watcher: WalkWatcher): () => void {
  let hiddenAt = 0;
  const listeners = new AbortController();
  const { signal } = listeners;
  const reconnect = () => {
    watcher.reconnect();
  };
  addEventListener("online", reconnect, { signal });
  addEventListener("offline", reconnect, { signal });
  addEventListener("pageshow", (event) => {
    if (event.persisted) reconnect();
  }, { signal });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenAt = Date.now();
    else if (Date.now() - hiddenAt > STALE_AFTER_MS) reconnect();
  }, { signal });
  return () => {
    listeners.abort();
  };
}
