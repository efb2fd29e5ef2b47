import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { loadModels, models } from "./models.svelte";

const NONE = { models: [], effort: "fast" };
const ONE = { models: [{ name: "sd15" }], effort: "best" };

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** Answer each request with the next of these, then always with the last. Returns the number of requests so far. */
function answering(...answers: readonly (object | null)[]): () => number {
  let requests = 0;
  vi.stubGlobal("fetch", () => {
    const answer = answers[Math.min(requests++, answers.length - 1)];
    return answer ? Promise.resolve(Response.json(answer)) : Promise.reject(new TypeError("Failed to fetch"));
  });
  return () => requests;
}

test("models are requested again, less and less often, until there are some", async () => {
  const requests = answering(NONE, null, NONE, ONE);
  await loadModels();
  expect([models.starting, models.known, requests()]).toEqual([true, [], 1]);
  await vi.advanceTimersByTimeAsync(4_999);
  expect(requests()).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect([requests(), models.error]).toEqual([2, "The server cannot be reached. Check your connection, then try again."]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect([requests(), models.error, models.starting]).toEqual([3, "", true]);
  await vi.advanceTimersByTimeAsync(20_000);
  expect([requests(), models.starting, models.effort]).toEqual([4, false, "best"]);
  await vi.advanceTimersByTimeAsync(600_000);
  expect(requests()).toBe(4);
});

test("a page that nobody sees requests no models", async () => {
  const requests = answering(NONE);
  await loadModels();
  const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
  await vi.advanceTimersByTimeAsync(600_000);
  expect(requests()).toBe(1);
  hidden.mockReturnValue(false);
  await vi.advanceTimersByTimeAsync(30_000);
  expect(requests()).toBe(2);
});

test("known models stay if they cannot be loaded again", async () => {
  answering(ONE, null);
  await loadModels();
  await loadModels();
  expect([models.known, models.error]).toEqual([ONE.models, "The server cannot be reached. Check your connection, then try again."]);
});
