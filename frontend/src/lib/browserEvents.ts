/** What a WalkWatcher needs of the browser: event streams, timers, and news of network, sleep and tab changes. */

import { getWalk } from "../api/client";
import { takeStreamSlot } from "./streamSlots";
import { partOf } from "./walkUrl";
import type { Environment, EventStream, WalkWatcher } from "./walkWatcher";

/** The environment of a watcher. link: the token of a link that opens a private walk. */
export const browserWith = (link?: string): Environment => ({
  openEvents: (id) => openWhenThereIsRoom(partOf(`/api/v1/walks/${id}${link ? `?link=${link}` : ""}`, "events")),
  getWalk: (id) => getWalk(id, link),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => {
      clearTimeout(timer);
    };
  },
  isOnline: () => navigator.onLine,
  isVisible: () => !document.hidden,
});

/** An event stream, opened once the browser has room for one more. */
function openWhenThereIsRoom(url: string): EventStream {
  let giveBack = (): void => undefined;
  let source: EventSource | null = null;
  let closed = false;
  const stream: EventStream = {
    onwalk: () => undefined,
    onlost: () => undefined,
    onfull: () => undefined,
    close: () => {
      closed = true;
      source?.close();
      giveBack();
    },
  };
  void takeStreamSlot().then((slot) => {
    if (closed) slot?.();
    else if (slot) {
      giveBack = slot;
      source = listen(url, stream);
    } else stream.onfull();
  });
  return stream;
}

function listen(url: string, stream: EventStream): EventSource {
  const source = new EventSource(url);
  source.addEventListener("walk", (event: MessageEvent<string>) => {
    stream.onwalk(event.data);
  });
  source.addEventListener("error", () => {
    stream.onlost(source.readyState === EventSource.CLOSED);
  });
  return source;
}

/**
 * Pause a watcher while its page is hidden, and reconnect it when the page or the network comes back. Returns a function
 * that stops this.
 */
export function watchWhileVisible(watcher: WalkWatcher): () => void {
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
    if (document.hidden) watcher.pause();
    else reconnect();
  }, { signal });
  return () => {
    listeners.abort();
  };
}
