/** The latest version of each walk seen, so that a page that is opened again shows something at once. In memory. */

import type { Walk } from "../api/client";

const MAX_WALKS = 200;
const cache = new Map<string, Walk>();

export function cacheWalk(walk: Walk): void {
  cache.delete(walk.id);
  cache.set(walk.id, walk);
  const [oldest] = cache.keys();
  if (cache.size > MAX_WALKS && oldest) cache.delete(oldest);
}

export function forgetWalk(id: string): void {
  cache.delete(id);
}

export function cachedWalk(id: string): Walk | null {
  return cache.get(id) ?? null;
}
