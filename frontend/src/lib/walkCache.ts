/** Walks as they were seen last, so that a page which is asked for again shows something at once. In memory. */

import type { Walk } from "../api/client";

const MOST = 200;
const seen = new Map<string, Walk>();

export function see(walk: Walk): void {
  seen.delete(walk.id);
  seen.set(walk.id, walk);
  const [oldest] = seen.keys();
  if (seen.size > MOST && oldest) seen.delete(oldest);
}

export function known(id: string): Walk | null {
  return seen.get(id) ?? null;
}
