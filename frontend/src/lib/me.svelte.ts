/** What the server knows of the visitor: kept for all pages, and loaded once. */

import { getMe, type Me } from "../api/client";

let found = $state.raw<Me | null>(null);
let loading: Promise<void> | null = null;

export const me = {
  /** Null until it is known. */
  get known() {
    return found;
  },
  /** Whether there is somewhere to sign in. */
  get canSignIn() {
    return found !== null && found.sign_in !== "off";
  },
};

/** Load it, or update it. Without it, the page only lacks what depends on it. */
export function loadMe({ again = false } = {}): Promise<void> {
  if (again || !loading) {
    loading = getMe().then(
      (answer) => { found = answer; },
      () => { loading = null; },
    );
  }
  return loading;
}
