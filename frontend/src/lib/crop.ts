/** Which part of a picture a frame shows: a rectangle of the frame's shape, moved and zoomed. Pure. */

import type { Crop } from "../api/client";

export interface Size {
  width: number;
  height: number;
}

/** What is seen of a picture: around which point, from 0 to 1 on both axes, and how enlarged. */
export interface CropView {
  x: number;
  y: number;
  /** 1 shows as much as the frame's shape allows. */
  zoom: number;
}

export const WHOLE: CropView = { x: 0.5, y: 0.5, zoom: 1 };
/** How far one key press moves, as a share of what is seen. */
const STEP = 0.05;
const ZOOM_STEP = 1.1;
const MAX_ZOOM = 8;
/** Fewer pixels than these are not worth a frame. */
const MIN_SIDE_PX = 64;

/** The largest rectangle of a shape inside a size. ratio: width through height of a frame. */
function largest({ width, height }: Size, ratio: number): Size {
  return width / height > ratio ? { width: height * ratio, height } : { width, height: width / ratio };
}

/** How far a picture can be enlarged. */
export function maxZoom(size: Size, ratio: number): number {
  const { width, height } = largest(size, ratio);
  return Math.max(1, Math.min(MAX_ZOOM, Math.min(width, height) / MIN_SIDE_PX));
}

/** A view within the limits: nothing outside of the picture is seen. */
export function within(view: CropView, size: Size, ratio: number): CropView {
  const zoom = clamp(view.zoom, 1, maxZoom(size, ratio));
  const { width, height } = largest(size, ratio);
  const [x, y] = [width / size.width / zoom / 2, height / size.height / zoom / 2];
  return { x: clamp(view.x, x, 1 - x), y: clamp(view.y, y, 1 - y), zoom };
}

/** The pixels of a view. */
export function cropAt(view: CropView, size: Size, ratio: number): Crop {
  const { x, y, zoom } = within(view, size, ratio);
  const whole = largest(size, ratio);
  const width = Math.max(1, Math.min(size.width, Math.round(whole.width / zoom)));
  const height = Math.max(1, Math.min(size.height, Math.round(whole.height / zoom)));
  return {
    x: clamp(Math.round(x * size.width - width / 2), 0, size.width - width),
    y: clamp(Math.round(y * size.height - height / 2), 0, size.height - height),
    width,
    height,
  };
}

/** The view that shows a crop; the middle of it, if it has another shape than the frame. As the API cuts it. */
export function viewOf(crop: Crop | null, size: Size, ratio: number): CropView {
  if (!crop) return WHOLE;
  const shown = largest(crop, ratio);
  const zoom = largest(size, ratio).width / shown.width;
  const [x, y] = [(crop.x + crop.width / 2) / size.width, (crop.y + crop.height / 2) / size.height];
  return within({ x, y, zoom }, size, ratio);
}

/** A view moved by shares of what is seen. */
export function moved(view: CropView, right: number, down: number, size: Size, ratio: number): CropView {
  const { width, height } = largest(size, ratio);
  const x = view.x + (right * width) / size.width / view.zoom;
  const y = view.y + (down * height) / size.height / view.zoom;
  return within({ ...view, x, y }, size, ratio);
}

/** The view after a key of the crop tool; null for other keys. */
export function afterKey(key: string, view: CropView, size: Size, ratio: number): CropView | null {
  switch (key) {
    case "ArrowLeft":
      return moved(view, -STEP, 0, size, ratio);
    case "ArrowRight":
      return moved(view, STEP, 0, size, ratio);
    case "ArrowUp":
      return moved(view, 0, -STEP, size, ratio);
    case "ArrowDown":
      return moved(view, 0, STEP, size, ratio);
    case "+":
    case "=":
      return within({ ...view, zoom: view.zoom * ZOOM_STEP }, size, ratio);
    case "-":
      return within({ ...view, zoom: view.zoom / ZOOM_STEP }, size, ratio);
    default:
      return null;
  }
}

/** A crop for screen readers: "From 10% to 60% of the width and from 0% to 50% of the height." */
export function cropText(crop: Crop, size: Size): string {
  const range = (start: number, length: number, all: number) =>
    `from ${percent(start, all)} to ${percent(start + length, all)}`;
  const across = range(crop.x, crop.width, size.width);
  return `Shown: ${across} of the width, ${range(crop.y, crop.height, size.height)} of the height.`;
}

function percent(part: number, all: number): string {
  return `${String(Math.round((100 * part) / all))}%`;
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
