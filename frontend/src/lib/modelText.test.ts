import { expect, test } from "vitest";
import type { Model } from "../api/client";
import { isAsleep, licenceText, modelLabel, speedText, titleOfModel } from "./modelText";

const model = (name: string, title = "", changes: Partial<Model> = {}): Model =>
  ({ name, card: { model: name, about: { title } }, replicas: { awake: 1 }, frame_seconds: null, ...changes }) as Model;
const about = (license: string, commercial?: boolean) => ({ license, commercial }) as Model["card"]["about"];

test("a model without a title is called by its name", () => {
  expect(titleOfModel(model("sd15", "Stable Diffusion 1.5"))).toBe("Stable Diffusion 1.5");
  expect(titleOfModel(model("sd15"))).toBe("sd15");
});

test("walks are labelled with their model only where there is another one", () => {
  expect(modelLabel([], "sd15")).toBe("");
  expect(modelLabel([model("sd15", "SD")], "sd15")).toBe("");
  expect(modelLabel([model("sd15", "SD"), model("sdxl")], "sd15")).toBe("SD");
  expect(modelLabel([model("sd15", "SD")], "retired")).toBe("retired");
});

test("the speed is a rough figure, and no figure if it was not measured", () => {
  const speed = (frame_seconds: number | null, awake: number | null = 1) =>
    speedText(model("a", "", { frame_seconds, replicas: { awake } }));
  expect([0.2, 1.04, 2.4, null].map((seconds) => speed(seconds))).toEqual([
    "less than 1 s a picture", "about 1 s a picture", "about 2 s a picture", "",
  ]);
  expect(speed(2, 0)).toBe("asleep");
  expect(speed(2, null)).toBe("about 2 s a picture");
  expect(isAsleep(model("a", "", { replicas: { awake: null } }))).toBe(false);
});

test("a licence that forbids commercial use says so", () => {
  expect(licenceText(about("Apache-2.0", true))).toBe("Licence: Apache-2.0.");
  expect(licenceText(about("CC0 for the pictures."))).toBe("Licence: CC0 for the pictures.");
  expect(licenceText(about("CC-BY-NC-4.0", false))).toBe("Licence: CC-BY-NC-4.0, not for commercial use.");
  expect(licenceText(about("", false))).toBe("Not for commercial use.");
  expect(licenceText(about(""))).toBe("");
});
