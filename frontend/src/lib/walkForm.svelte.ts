/** The form for a new walk: the draft, its model with the settings that it allows, and what is wrong with it. */

import { requestWalk, type Walk } from "../api/client";
import { formMessages, NO_MESSAGES } from "../api/problem";
import { draftOf, draftProblems, editPath, requestOf, usedSettings, withModel, withUploaded, type Draft } from "./draft";
import type { FilmSpec } from "./filmSpec";
import { modelsFor } from "./kinds";
import { loadModels, models } from "./models.svelte";
import { titleOfModel } from "./modelText";
import { current, setQuery } from "./router.svelte";
import { forgetSettings, savedSettings, saveSettings } from "./savedSettings";
import {
  allowedBy, changesOf, defaultsOf, isOfModel, isSetting, only, withChanges,
  type SettingChanges, type SettingName, type Settings,
} from "./settings";

export class WalkForm {
  draft = $state<Draft>(draftOf(""));
  problems = $state.raw(NO_MESSAGES);
  /** What is wrong, if it belongs to no field. */
  error = $state("");
  status = $state("");
  busy = $state(false);
  readonly models = $derived(modelsFor("between", models.known));
  /** The model that the walk will have; undefined while none is known. */
  readonly model = $derived(this.models.find(({ name }) => name === this.draft.model) ?? this.models[0]);
  readonly card = $derived(this.model?.card);
  readonly defaults = $derived(defaultsOf(this.card, models.effort));
  /** Width through height of a frame; of a square one until the model is known. */
  readonly ratio = $derived((this.value("width") ?? 1) / (this.value("height") ?? 1));
  /** Whether the model can use pictures as stops. */
  readonly takesPictures = $derived(this.model?.pictures ?? true);
  /** The settings that differ from the defaults, once these are known. */
  readonly changes = $derived(this.card ? changesOf(usedSettings(this.draft), this.defaults) : []);
  /** Whether the settings come from an earlier walk or a link, and not from the visitor. */
  taken = $state(false);
  // Whether the saved settings of the model are still to be applied.
  #fresh: boolean;
  // The API's refusal while no model was known, or "".
  #early = "";

  /** kept: the draft of an earlier visit. query: that of the URL. */
  constructor(kept: Draft | undefined, query: string) {
    this.draft = kept ? withUploaded(kept) : draftOf(query);
    this.taken = !kept && Object.keys(this.draft.settings).length > 0;
    this.#fresh = !kept && !this.taken;
    if (this.#fresh) this.draft.settings = savedSettings();
  }

  /** What the walk will have. */
  value<Name extends SettingName>(name: Name): Settings[Name] {
    return this.draft.settings[name] ?? this.defaults[name];
  }

  /** Change settings, also those of the next visit. */
  set(changes: SettingChanges): void {
    this.draft.settings = withChanges(this.draft.settings, changes, this.defaults);
    saveSettings(this.model?.name, changes, this.defaults);
  }

  useDefaults(): void {
    this.draft.settings = {};
    this.taken = false;
    this.problems = NO_MESSAGES;
    forgetSettings(this.model?.name);
  }

  /** Choose a model. Its settings are those that the visitor has last used with it. */
  chooseModel(name: string): void {
    const common = only(this.draft.settings, (setting) => !isOfModel(setting));
    this.draft.model = name;
    this.#useSettings({ ...savedSettings(name), ...common });
    this.problems = NO_MESSAGES;
    this.status = "";
    setQuery(withModel(current.query, name));
  }

  /** Adapt the draft to the models, once they are known and whenever they change. */
  adapt(): void {
    if (!this.model) return;
    if (this.error === this.#early) this.error = "";
    this.#early = "";
    this.status = this.#replaceModel() || this.status;
    if (this.#fresh) this.#useSettings({ ...savedSettings(this.model.name), ...this.draft.settings });
    this.#fresh = false;
  }

  /** Fill in the prompts and settings of a film. */
  showFilm(spec: FilmSpec, fileName: string): void {
    this.draft = { ...draftOf(editPath(spec).slice(1)), listed: this.draft.listed };
    this.taken = true;
    this.#fresh = false;
    this.problems = NO_MESSAGES;
    this.error = "";
    const replaced = this.#replaceModel();
    const differs = !replaced && this.card && this.card.revision !== spec.revision;
    this.status = `The form now has the prompts and settings of ${fileName}. ${replaced}`.trim();
    if (differs) this.status += " It was made with another version of the model, so the pictures of a new walk will differ.";
  }

  /** Request the walk. Returns null if something has to be corrected first. */
  async submit(): Promise<Walk | null> {
    this.status = this.error = "";
    this.problems = draftProblems(this.draft, this.takesPictures ? "" : this.#noPictures());
    if (this.problems.size) return null;
    this.busy = true;
    try {
      return await requestWalk(requestOf(this.draft));
    } catch (thrown) {
      ({ fields: this.problems, other: this.error } = formMessages(thrown, this.draft.stops.length, isField));
      if (!this.model) this.#early = this.error;
      // A model may have been retired since the page was opened.
      void loadModels();
      return null;
    } finally {
      this.busy = false;
    }
  }

  #noPictures(): string {
    return `${this.model ? titleOfModel(this.model) : "This model"} cannot use pictures. Remove this one, or choose another model.`;
  }

  #useSettings(settings: Settings): void {
    this.draft.settings = this.card ? allowedBy(this.card, settings) : settings;
  }

  /** Use the default if the draft's model is not available. Returns a sentence about that, or "". */
  #replaceModel(): string {
    const { model: wanted, settings } = this.draft;
    if (!this.model || !wanted || wanted === this.model.name) return "";
    this.draft.model = "";
    this.#useSettings(settings);
    return `The model “${wanted}” is not available. The form uses ${titleOfModel(this.model)}, so the pictures will differ.`;
  }
}

/** Whether the form has a place for the messages of a field. */
function isField(name: string): boolean {
  if (name === "model") return models.known.length > 1;
  return name.startsWith("stops.") || name === "frames" || name === "seed" || isSetting(name);
}
