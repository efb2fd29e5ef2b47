import { expect, test, vi } from "vitest";
import { emptyDraft, pictureOf, stopOf } from "./draft";
import { keepDraftForNext, saveDraft, savedDraft } from "./savedDraft";

const draft = { ...emptyDraft(), stops: [{ prompt: "a", picture: pictureOf("5a") }, { prompt: "b", picture: pictureOf("") }] };

test("a reload brings back the draft of the same visit, with the pictures that were uploaded", () => {
  saveDraft("one", draft);
  expect(savedDraft("one")).toEqual({ ...draft, stops: [draft.stops[0], stopOf("b")] });
  expect(savedDraft("other")).toBeUndefined();
});

test("a sign-in brings back the draft in the visit after it, and in no later one", () => {
  saveDraft("before", draft);
  keepDraftForNext("before");
  const found = savedDraft("after");
  expect(found?.stops[0]).toEqual(draft.stops[0]);
  if (found) saveDraft("after", found);
  expect(savedDraft("later")).toBeUndefined();
});

test("without storage nothing fails", () => {
  vi.stubGlobal("sessionStorage", undefined);
  saveDraft("one", draft);
  expect(savedDraft("one")).toBeUndefined();
  vi.unstubAllGlobals();
});
