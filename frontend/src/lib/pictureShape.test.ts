import { expect, test } from "vitest";
import { reshaped, shapeOf } from "./pictureShape";

const atelier = { min_size: 64, max_size: 256, size_multiple: 32 };
const large = { min_size: 256, max_size: 2048, size_multiple: 16 };

test("a shape keeps about as many pixels", () => {
  expect(reshaped("landscape", 128, 128, atelier)).toEqual([160, 96]);
  expect(reshaped("portrait", 1024, 1024, large)).toEqual([832, 1248]);
  expect(reshaped("square", 832, 1248, large)).toEqual([1024, 1024]);
});

test("a landscape becomes a portrait by exchanging its sides, and back", () => {
  expect(reshaped("portrait", 1344, 768, large)).toEqual([768, 1344]);
  expect(reshaped("landscape", 768, 1344, large)).toEqual([1344, 768]);
});

test("the same shape changes nothing", () => {
  for (const [width, height] of [[64, 256], [256, 64], [96, 96]] as const) {
    expect(reshaped(shapeOf(width, height), width, height, atelier)).toEqual([width, height]);
  }
});

test("sizes stay within the limits of the model", () => {
  expect(reshaped("landscape", 256, 256, atelier)).toEqual([256, 224]);
  expect(reshaped("portrait", 64, 64, atelier)).toEqual([64, 96]);
  expect(reshaped("landscape", 96, 96, { min_size: 70, max_size: 100, size_multiple: 32 })).toEqual([96, 96]);
});
