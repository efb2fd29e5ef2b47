import { expect, test } from "vitest";
import type { Clip } from "../api/client";
import { clipIn, clipText } from "./clipText";
import { cutOutsOf, filesOf, instancesIn, instanceText, tileAround } from "./extras";

const extra = (name: string) => ({ name, url: `/x/${name}`, media_type: "image/png" });

test("cut-outs are told from other extras, and are in the order of their numbers", () => {
  const extras = ["instance-10.png", "instances.json", "instance-02.png", "depth.png", "new.png"].map(extra);
  expect(cutOutsOf(extras).map(({ number }) => number)).toEqual([2, 10]);
  expect(filesOf(extras).map(({ label }) => label)).toEqual(["Masks (JSON)", "Depth map (PNG)", "new.png"]);
});

test("objects have their labels, and numbers where these are unknown", () => {
  const instances = instancesIn({ instances: [{ label: "cat", score: 0.934 }, null] });
  expect(instances.map((instance, index) => instanceText(instance, index + 1))).toEqual(["cat, 93%", "Object 2"]);
  for (const damaged of [null, [], {}, { instances: 3 }]) expect(instancesIn(damaged)).toEqual([]);
});

test("a tile shows its object in the middle, whatever its shape", () => {
  for (const box of [[30, 20, 200, 10], [30, 20, 10, 200]]) {
    const [x = 0, y = 0, width = 0, height = 0] = box;
    const tile = tileAround(box);
    expect(tile.width / tile.height).toBeCloseTo(4 / 3);
    expect([tile.x + tile.width / 2, tile.y + tile.height / 2]).toEqual([x + width / 2, y + height / 2]);
    expect(tile.width > width && tile.height > height).toBe(true);
  }
  expect(instancesIn({ instances: [{ label: "a", box: [1, 2, 3] }, { box: [1, 2, 3, 4] }] }).map(({ box }) => box)).toEqual([
    null, [1, 2, 3, 4],
  ]);
});

test("a clip is described, and found among files by its type or its name", () => {
  const clip = { seconds: 3.21, width: 480, height: 270, frames: 96, has_sound: true } as Clip;
  expect(clipText(clip)).toBe("3.2 s · 480 × 270 px · 96 frames · with sound");
  const files = [{ type: "image/png", name: "a.png" }, { type: "", name: "B.MOV" }] as unknown as FileList;
  expect(clipIn(files)?.name).toBe("B.MOV");
  expect(clipIn(undefined)).toBeUndefined();
});
