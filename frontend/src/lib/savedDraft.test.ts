import { expect, test, vi } from "vitest";
import { emptyDraft, pictureOf, stopOf } from "./draft";
import { saveDraft, savedDraft } from "./savedDraft";

const draft = { ...emptyDraft(), stops: [{ prompt: "a", picture: pictureOf("5a") }, { prompt: "b", picture: pictureOf("") }] };

test("a reload brings back the draft of the same visit, with the pictures that were uploaded", () => {
  saveDraft("one", draft);
  expect(savedDraft("one")).toEqual({ ...draft, stops: [draft.stops[0], stopOf("b")] });
  expect(savedDraft("other")).toBeUndefined();
});

test("without storage nothing fails", () => {
  vi.stubGlobal("sessionStorage", undefined);
  saveDraft("one", draft);
  expect(savedDraft("one")).toBeUndefined();
  vi.unstubAllGlobals();
});
