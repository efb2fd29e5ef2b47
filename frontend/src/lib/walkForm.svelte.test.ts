import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Model, Models } from "../api/client";
import type { FilmSpec } from "./filmSpec";
import { loadModels } from "./models.svelte";
import { WalkForm } from "./walkForm.svelte";

function model(name: string, steps: number, most: number): Model {
  const card = {
    model: name, revision: "1", width: 128, height: 128, min_size: 64, max_size: 256, size_multiple: 32, max_steps: most,
    num_inference_steps: steps, guidance_scale: 4, negative_prompt: "", scheduler: "Euler", schedulers: ["Euler"],
    about: { title: `The ${name}`, license: "", words: [], examples: [], summary: "", limits: "" },
  };
  return { name, kinds: ["between"], default: false, license: "", card, replicas: { awake: 1 }, frame_seconds: null } as unknown as Model;
}

const BOTH: Models = { models: [model("slow", 12, 100), model("quick", 4, 8)], effort: "balanced" };
const spec: FilmSpec = { stops: ["a", "b"], frames: 13, seed: 7, spacing: "even", model: "quick", revision: "1" };

/** Have the API offer these models. */
async function offer(models: Models): Promise<void> {
  vi.stubGlobal("fetch", () => Promise.resolve(Response.json(models)));
  await loadModels();
}

beforeEach(async () => {
  localStorage.clear();
  await offer(BOTH);
});
afterEach(() => {
  vi.unstubAllGlobals();
});

function opened(query = ""): WalkForm {
  const form = new WalkForm(undefined, query);
  form.adapt();
  return form;
}

test("a new form has the default model and no settings", () => {
  const form = opened();
  expect([form.model?.name, form.draft.model, form.draft.settings, form.status]).toEqual(["slow", "", {}, ""]);
});

test("settings are remembered for the model that they were chosen for", () => {
  const form = opened();
  form.set({ steps: 60, frame_ms: 40 });
  form.chooseModel("quick");
  expect(form.draft.settings).toEqual({ frame_ms: 40 });
  form.chooseModel("slow");
  expect(form.draft.settings).toEqual({ steps: 60, frame_ms: 40 });
  expect(opened().draft.settings).toEqual({ steps: 60, frame_ms: 40 });
});

test("a link with settings brings these alone, and does not change those that are remembered", () => {
  opened().set({ steps: 60 });
  expect(opened("?width=64").draft.settings).toEqual({ width: 64 });
  expect(opened("?stop=a&stop=b").draft.settings).toEqual({ steps: 60 });
});

test("remembered settings that the model does not allow any more are dropped", async () => {
  opened().set({ steps: 60, width: 64 });
  await offer({ models: [model("slow", 12, 50)], effort: "balanced" });
  expect(opened().draft.settings).toEqual({ width: 64 });
});

test("the defaults come back, and the remembered settings are forgotten", () => {
  const form = opened();
  form.set({ steps: 60, frame_ms: 40 });
  expect(form.changes).toEqual(["steps", "frame_ms"]);
  form.useDefaults();
  expect([form.changes, form.value("steps"), opened().draft.settings]).toEqual([[], 12, {}]);
});

test("a link to a model that is not offered leads to the default, with a sentence and what it allows", async () => {
  await offer({ models: [model("quick", 4, 8)], effort: "balanced" });
  const form = opened("?model=slow&steps=60&width=64");
  expect([form.draft.model, form.draft.settings]).toEqual(["", { width: 64 }]);
  expect(form.status).toBe("The model “slow” is not available. The form uses The quick, so the pictures will differ.");
});

test("settings that are chosen before the models are known stay", async () => {
  opened().set({ steps: 60, frame_ms: 40 });
  await offer({ models: [], effort: "balanced" });
  const form = opened();
  form.set({ frame_ms: 120 });
  await offer(BOTH);
  form.adapt();
  expect(form.draft.settings).toEqual({ steps: 60, frame_ms: 120 });
});

test("a film brings its model, and one of another version says that pictures will differ", () => {
  const form = opened();
  form.showFilm(spec, "walk.gif");
  expect([form.model?.name, form.status]).toEqual(["quick", "The form now has the prompts and settings of walk.gif."]);
  form.showFilm({ ...spec, revision: "2" }, "walk.gif");
  expect(form.status).toContain("another version of the model");
  form.showFilm({ ...spec, model: "gone" }, "walk.gif");
  expect(form.status).toContain("The model “gone” is not available.");
});

test("the API's messages stand at the fields of the form, and others above it", async () => {
  const form = opened("?stop=a&stop=b");
  const errors = [{ field: "steps", detail: "must be less" }, { field: "listed", detail: "must be true" }];
  vi.stubGlobal("fetch", () => Promise.resolve(Response.json({ detail: "…", errors }, { status: 422 })));
  expect(await form.submit()).toBeNull();
  expect([[...form.problems], form.error]).toEqual([[["steps", "Steps must be less."]], "Listed must be true."]);
});

test("a model that was retired since the page was opened is replaced by the default", async () => {
  const form = opened("?stop=a&stop=b");
  form.chooseModel("quick");
  const errors = [{ field: "model", detail: "quick is retired" }];
  const others: Models = { models: [model("slow", 12, 100)], effort: "balanced" };
  vi.stubGlobal("fetch", ({ method }: Request) =>
    Promise.resolve(method === "POST" ? Response.json({ detail: "…", errors }, { status: 422 }) : Response.json(others)),
  );
  await form.submit();
  expect(form.problems.get("model")).toBe("Model quick is retired.");
  await vi.waitUntil(() => form.model?.name === "slow");
  form.adapt();
  expect([form.draft.model, form.status]).toEqual(["", expect.stringContaining("The model “quick” is not available.")]);
});

test("a refusal because no model has started disappears once one has, and no other message does", async () => {
  await offer({ models: [], effort: "balanced" });
  const form = opened("?stop=a&stop=b");
  vi.stubGlobal("fetch", () => Promise.resolve(Response.json({ detail: "No replica has started yet." }, { status: 503 })));
  await form.submit();
  expect(form.error).toBe("No replica has started yet.");
  await offer(BOTH);
  form.adapt();
  expect(form.error).toBe("");
  form.error = "a.png has no settings.";
  form.adapt();
  expect(form.error).toBe("a.png has no settings.");
});
