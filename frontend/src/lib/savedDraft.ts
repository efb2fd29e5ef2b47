/** The draft of the form, kept for a reload of the page and for a sign-in: in this tab, until it is closed. */

import { withUploaded, type Draft } from "./draft";

const KEY = "momalisa-draft";
/** In place of the key of a visit: the next one gets the draft. */
const NEXT = "next";

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
    return saved && [visit, NEXT].includes(saved.visit) ? saved.draft : undefined;
  } catch {
    return undefined;
  }
}

/** Keep the draft of a visit for the next one: the page that a sign-in returns to has another key. */
export function keepDraftForNext(visit: string): void {
  const draft = savedDraft(visit);
  if (draft) saveDraft(NEXT, draft);
}
