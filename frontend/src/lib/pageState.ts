/** What a page restores when Back leads to the same visit of it. In memory: lost on reload. */

const states = new Map<string, Map<string, unknown>>();

export function setPageState(visit: string, name: string, value: unknown): void {
  const state = states.get(visit) ?? new Map<string, unknown>();
  states.set(visit, state.set(name, value));
}

export function getPageState(visit: string, name: string): unknown {
  return states.get(visit)?.get(name);
}
