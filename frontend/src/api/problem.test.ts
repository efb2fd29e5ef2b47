import { expect, test } from "vitest";
import { fieldMessage, formMessages, messageOf, Problem, problemOf, UNREACHABLE } from "./problem";

test("a problem's detail is the message", () => {
  const body = { type: "urn:x", title: "T", status: 404, detail: "There is no walk 7.", errors: null };
  expect(messageOf(problemOf(404, body))).toBe("There is no walk 7.");
});

test("what the API tells programs is put into words for visitors", () => {
  const body = { type: "urn:momalisa:problem:walk-not-found", detail: "Create it with POST." };
  expect(problemOf(404, body).message).toBe("This walk has been deleted, or is private. Reload the page.");
});

test("a response that is no problem document, such as a proxy's, is shown by its status", () => {
  for (const body of [null, undefined, "<html>", {}, { detail: ["x"] }]) {
    expect(problemOf(502, body).message).toBe("The server returned error 502. Try again.");
  }
});

test("fields get the names that the form shows", () => {
  const errors = [{ field: "stops.0", detail: "must have 1 to 1000 characters, not 0" }, { nonsense: true }];
  const problem = problemOf(422, { detail: "…", errors });
  expect(problem.fields.map((field) => fieldMessage(field, 3))).toEqual([
    "The first prompt must have 1 to 1000 characters, not 0.",
  ]);
  expect(fieldMessage({ field: "stops.1", detail: "is long" }, 3)).toBe("Stop 2 is long.");
  expect(fieldMessage({ field: "stops.2", detail: "is long" }, 3)).toBe("The last prompt is long.");
  expect(fieldMessage({ field: "stops.1.picture", detail: "is not one of your pictures" }, 3)).toBe(
    "The picture of stop 2 is no longer available to you. Choose another one.",
  );
  expect(fieldMessage({ field: "frame_ms", detail: "must be a number" }, 2)).toBe("Frame time must be a number.");
});

test("a missing response and a bug have messages too", () => {
  expect(messageOf(new TypeError("Failed to fetch"))).toBe(UNREACHABLE);
  expect(messageOf(new Problem("Wait.", 429))).toBe("Wait.");
  expect(messageOf(new Error("x is undefined"))).toBe("Something went wrong. Reload the page.");
});

test("a message about a part of a picture stands at the picture", () => {
  const thrown = new Problem("…", 422, [
    { field: "picture.crop", detail: "must be inside of the picture" }, { field: "style_picture.picture", detail: "is not yours" },
  ]);
  const { fields, other } = formMessages(thrown, 0, (name) => ["picture", "style_picture"].includes(name));
  expect([...fields.keys(), other]).toEqual(["picture", "style_picture", ""]);
  expect(fields.get("style_picture")).toContain("no longer available to you");
});
