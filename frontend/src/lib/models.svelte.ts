/** The models that new walks can use, kept for all pages. While none is known, they are requested again and again. */

import { getModels, type Models } from "../api/client";
import { messageOf } from "../api/problem";

/** Seconds until the next try: soon at first, for a model that starts at this moment. */
const PAUSES_S = [5, 10, 20, 30] as const;
const LONGEST_PAUSE_S = 30;

interface State {
  /** Null until the first answer; an empty list while no replica has started. */
  found: Models | null;
  /** Why the models could not be loaded, or "". */
  error: string;
}

let state = $state.raw<State>({ found: null, error: "" });
let timer: ReturnType<typeof setTimeout> | undefined;

export const models = {
  /** The default first. */
  get known() {
    return state.found?.models ?? [];
  },
  /** The effort of a walk that requests none. */
  get effort() {
    return state.found?.effort ?? "balanced";
  },
  /** Whether no replica has started yet, so that there are no models. */
  get starting() {
    return state.found?.models.length === 0;
  },
  get error() {
    return state.error;
  },
};

/** Load the models, or update them; again after a pause until there are some. */
export async function loadModels(tries = 0): Promise<void> {
  clearTimeout(timer);
  // A page that nobody sees can wait.
  if (!tries || !document.hidden) state = await newState();
  clearTimeout(timer);
  if (!models.known.length) timer = setTimeout(() => void loadModels(tries + 1), 1000 * (PAUSES_S[tries] ?? LONGEST_PAUSE_S));
}

/** If the models cannot be loaded, those of before remain. */
async function newState(): Promise<State> {
  try {
    return { found: await getModels(), error: "" };
  } catch (thrown) {
    return { ...state, error: messageOf(thrown) };
  }
}
