import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { retryDelayMs, retryImage } from "./retryImage";

describe("an image that failed to load", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it("is retried after longer and longer pauses, and not for ever", () => {
    const delays = [0, 1, 2, 3, 4, 5, 6].map(retryDelayMs);
    expect(delays).toEqual([1000, 2000, 4000, 8000, 16000, 32000, null]);
  });

  it("is loaded again, but not once it has left the page", () => {
    const image = document.createElement("img");
    image.src = "/frames/0.png";
    const loads = vi.spyOn(image, "setAttribute");
    const detach = retryImage(image);
    image.dispatchEvent(new Event("error"));
    vi.advanceTimersByTime(1000);
    expect(loads).toHaveBeenCalledTimes(1);
    image.dispatchEvent(new Event("error"));
    detach?.();
    vi.advanceTimersByTime(60_000);
    expect(loads).toHaveBeenCalledTimes(1);
  });
});
