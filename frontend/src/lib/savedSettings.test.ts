import { beforeEach, expect, test, vi } from "vitest";
import { forgetSettings, savedSettings, saveSettings } from "./savedSettings";

const defaults = { steps: 12, frame_ms: 80 };
beforeEach(() => {
  localStorage.clear();
});

test("settings of pictures are kept for each model, the others once", () => {
  saveSettings("sd15", { steps: 4, frame_ms: 40 }, defaults);
  saveSettings("sdxl", { steps: 30 }, defaults);
  expect(savedSettings("sd15")).toEqual({ steps: 4, frame_ms: 40 });
  expect(savedSettings("sdxl")).toEqual({ steps: 30, frame_ms: 40 });
  expect(savedSettings()).toEqual({ frame_ms: 40 });
});

test("a setting that gets its default is forgotten", () => {
  saveSettings("sd15", { steps: 4, frame_ms: 40 }, defaults);
  saveSettings("sd15", { steps: 12, frame_ms: undefined }, defaults);
  expect(localStorage.length).toBe(0);
});

test("the settings of other models are kept when those of one are forgotten", () => {
  saveSettings("sd15", { steps: 4, frame_ms: 40 }, defaults);
  saveSettings("sdxl", { steps: 30 }, defaults);
  forgetSettings("sd15");
  expect(savedSettings("sd15")).toEqual({});
  expect(savedSettings("sdxl")).toEqual({ steps: 30 });
});

test("invalid values in storage are ignored", () => {
  localStorage.setItem("momalisa-settings", "spacing=wide&frame_ms=x&steps=4&__proto__=1");
  expect(savedSettings("sd15")).toEqual({});
});

test("if storage is blocked, nothing is saved and nothing fails", () => {
  vi.stubGlobal("localStorage", undefined);
  saveSettings("sd15", { steps: 4 }, defaults);
  expect(savedSettings("sd15")).toEqual({});
  vi.unstubAllGlobals();
});
