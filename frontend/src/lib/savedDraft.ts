/** The draft of the form, kept for a reload of the page: in this tab, until it is closed. */

import { withUploaded, type Draft } from "./draft";

const KEY = "momalisa-draft";

/** visit: the key of the visit that the draft belongs to. */
export function saveDraft(visit: string, draft: Draft): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ visit, draft: withUploaded(draft) }));
  } catch {
    // Without storage, a reload begins with an empty form.
  }
}

export function savedDraft(visit: string): Draft | undefined {
  try {
    const saved = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as { visit: string; draft: Draft } | null;
    return saved?.visit === visit ? saved.draft : undefined;
  } catch {
    return undefined;
  }
}
