import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { filmsAreWelcome, Linger, LINGER_MS } from "./hoverIntent";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("who passes by does not linger; who stays does, until they go", () => {
  const heard: boolean[] = [];
  const linger = new Linger((now) => heard.push(now));
  linger.start();
  vi.advanceTimersByTime(LINGER_MS - 1);
  linger.stop();
  vi.advanceTimersByTime(LINGER_MS);
  expect(heard).not.toContain(true);
  linger.start();
  vi.advanceTimersByTime(LINGER_MS);
  expect(heard.at(-1)).toBe(true);
  linger.stop();
  expect(heard.at(-1)).toBe(false);
});

test("films are welcome unless motion or bytes are to be saved", () => {
  const still = (matches: boolean) => vi.stubGlobal("matchMedia", () => ({ matches }));
  still(false);
  expect(filmsAreWelcome()).toBe(true);
  vi.stubGlobal("navigator", { connection: { saveData: true } });
  expect(filmsAreWelcome()).toBe(false);
  vi.stubGlobal("navigator", {});
  still(true);
  expect(filmsAreWelcome()).toBe(false);
});
