/** The visitor's settings, kept in the browser: those of pictures for each model, the others once. */

import { isOfModel, only, settingParameters, settingsIn, withChanges, type SettingChanges, type Settings } from "./settings";

const KEY = "momalisa-settings";

/** What was saved. model: the name of the one that the form has; unknown, its settings are left out. */
export function savedSettings(model?: string): Settings {
  return { ...only(read(KEY), (name) => !isOfModel(name)), ...(model && only(read(keyOf(model)), isOfModel)) };
}

/** Save new values of settings, and forget those that are the defaults. */
export function saveSettings(model: string | undefined, changes: SettingChanges, defaults: Settings): void {
  write(KEY, withChanges(read(KEY), only(changes, (name) => !isOfModel(name)), defaults));
  if (model) write(keyOf(model), withChanges(read(keyOf(model)), only(changes, isOfModel), defaults));
}

/** Forget what was saved for a model, and for all of them. */
export function forgetSettings(model: string | undefined): void {
  write(KEY, {});
  if (model) write(keyOf(model), {});
}

function keyOf(model: string): string {
  return `${KEY}:${model}`;
}

function read(key: string): Settings {
  try {
    return settingsIn(new URLSearchParams(localStorage.getItem(key) ?? ""));
  } catch {
    return {};
  }
}

function write(key: string, settings: Settings): void {
  const text = settingParameters(settings).toString();
  try {
    if (text) localStorage.setItem(key, text);
    else localStorage.removeItem(key);
  } catch {
    // If storage is blocked, the settings last until the page is left.
  }
}
