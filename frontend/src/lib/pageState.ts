/** What a page wants to find again when Back leads to the same visit of it. In memory: lost on reload. */

const kept = new Map<string, Map<string, unknown>>();

export function keepFor(visit: string, name: string, value: unknown): void {
  const held = kept.get(visit) ?? new Map<string, unknown>();
  kept.set(visit, held.set(name, value));
}

export function keptFor(visit: string, name: string): unknown {
  return kept.get(visit)?.get(name);
}
