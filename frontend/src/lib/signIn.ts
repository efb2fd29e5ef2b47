/** Where signing in begins. Pure. */

import type { Me } from "../api/client";

/**
 * The address that begins a sign-in. path: of the page to return to, with its query. claim: whether what this browser
 * has becomes the user's.
 */
export function signInUrl(path: string, claim = false): string {
  return `/api/v1/sign-in?${new URLSearchParams({ next: path, ...(claim && { claim: "true" }) }).toString()}`;
}

/** Whether this browser has something that a user can take along. */
export function hasBelongings(me: Me): boolean {
  return me.kind === "cookie" && me.walks + me.pictures + me.clips > 0;
}
