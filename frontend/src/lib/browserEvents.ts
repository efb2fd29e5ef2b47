/** The browser as a watch sees it. */

import { getWalk } from "../api/client";
import type { Events, Watch, World } from "./walkWatcher";

/** Sleep and tabs out of sight break lines that then look whole. */
const ASLEEP_MS = 30_000;

export const browser: World = {
  open: (id) => {
    const source = new EventSource(`/api/v1/walks/${id}/events`);
    const events: Events = {
      onwalk: () => undefined,
      onlost: () => undefined,
      close: () => {
        source.close();
      },
    };
    source.addEventListener("walk", (event: MessageEvent<string>) => {
      events.onwalk(event.data);
    });
    source.addEventListener("error", () => {
      events.onlost(source.readyState === EventSource.CLOSED);
    });
    return events;
  },
  get: getWalk,
  later: (ms, what) => {
    const timer = setTimeout(what, ms);
    return () => {
      clearTimeout(timer);
    };
  },
  online: () => navigator.onLine,
};

/** Wake a watch when the network, the machine or the page comes back. Returns what ends that. */
export function wakeWithBrowser(watch: Watch): () => void {
  let hidden = 0;
  const heard = new AbortController();
  const { signal } = heard;
  const wake = () => {
    watch.wake();
  };
  addEventListener("online", wake, { signal });
  addEventListener("offline", wake, { signal });
  addEventListener("pageshow", (event) => {
    if (event.persisted) wake();
  }, { signal });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hidden = Date.now();
    else if (Date.now() - hidden > ASLEEP_MS) wake();
  }, { signal });
  return () => {
    heard.abort();
  };
}
