import { expect, test } from "vitest";
import { fieldSentence, Problem, problemOf, sentenceOf, UNREACHABLE } from "./problem";

test("a problem's own detail is the sentence", () => {
  const body = { type: "urn:x", title: "T", status: 404, detail: "There is no walk 7.", errors: null };
  expect(sentenceOf(problemOf(404, body))).toBe("There is no walk 7.");
});

test("an answer that is no problem document, as of a proxy, says its status", () => {
  for (const body of [null, undefined, "<html>", {}, { detail: ["x"] }]) {
    expect(problemOf(502, body).message).toBe("The server answered 502. Try again.");
  }
});

test("fields are said as the visitor sees them", () => {
  const errors = [{ field: "stops.0", detail: "must have 1 to 1000 characters, not 0" }, { nonsense: true }];
  const problem = problemOf(422, { detail: "…", errors });
  expect(problem.fields.map((field) => fieldSentence(field, 3))).toEqual([
    "The first prompt must have 1 to 1000 characters, not 0.",
  ]);
  expect(fieldSentence({ field: "stops.1", detail: "is long" }, 3)).toBe("Stop 2 is long.");
  expect(fieldSentence({ field: "stops.2", detail: "is long" }, 3)).toBe("The last prompt is long.");
  expect(fieldSentence({ field: "frame_ms", detail: "must be a number" }, 2)).toBe("Frame ms must be a number.");
});

test("no answer at all, and a bug, are sentences too", () => {
  expect(sentenceOf(new TypeError("Failed to fetch"))).toBe(UNREACHABLE);
  expect(sentenceOf(new Problem("Wait.", 429))).toBe("Wait.");
  expect(sentenceOf(new Error("x is undefined"))).toBe("Something broke here. Reload the page.");
});
