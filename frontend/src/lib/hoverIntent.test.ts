import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { HOVER_MS, HoverIntent, mayPlayPreviews } from "./hoverIntent";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("a pointer that passes by means nothing; one that stays does, until it leaves", () => {
  const changes: boolean[] = [];
  const intent = new HoverIntent((intended) => changes.push(intended));
  intent.start();
  vi.advanceTimersByTime(HOVER_MS - 1);
  intent.stop();
  vi.advanceTimersByTime(HOVER_MS);
  expect(changes).not.toContain(true);
  intent.start();
  vi.advanceTimersByTime(HOVER_MS);
  expect(changes.at(-1)).toBe(true);
  intent.stop();
  expect(changes.at(-1)).toBe(false);
});

test("previews play unless motion or data is to be reduced", () => {
  const reduceMotion = (matches: boolean) => vi.stubGlobal("matchMedia", () => ({ matches }));
  reduceMotion(false);
  expect(mayPlayPreviews()).toBe(true);
  vi.stubGlobal("navigator", { connection: { saveData: true } });
  expect(mayPlayPreviews()).toBe(false);
  vi.stubGlobal("navigator", {});
  reduceMotion(true);
  expect(mayPlayPreviews()).toBe(false);
});
