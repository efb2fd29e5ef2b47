import { expect, test } from "vitest";
import { Playback } from "./playback.svelte";

test("a finished walk starts to play by itself", () => {
  const playback = new Playback();
  playback.autoplay();
  expect(playback.playing).toBe(true);
  expect(playback.frame).toBe(0);
});

test("a walk that the visitor has paused stays paused", () => {
  const playback = new Playback();
  playback.autoplay();
  playback.act("play", true);
  playback.autoplay();
  expect(playback.playing).toBe(false);
});

test("a walk on which the visitor has chosen a frame stays on that frame", () => {
  const playback = new Playback();
  playback.act({ to: 7 }, false);
  playback.autoplay();
  expect(playback.playing).toBe(false);
  expect(playback.frame).toBe(7);
});

test("play does nothing until all frames are ready", () => {
  const playback = new Playback();
  playback.act("play", false);
  expect(playback.playing).toBe(false);
});
