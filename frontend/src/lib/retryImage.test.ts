import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { pause, persist } from "./retryImage";

describe("a picture that did not come", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it("is waited for longer each time, and not for ever", () => {
    const pauses = [0, 1, 2, 3, 4, 5, 6].map(pause);
    expect(pauses).toEqual([1000, 2000, 4000, 8000, 16000, 32000, null]);
  });

  it("is asked for again, and no more once it has left the page", () => {
    const image = document.createElement("img");
    image.src = "/frames/0.png";
    const asked = vi.spyOn(image, "setAttribute");
    const leave = persist(image);
    image.dispatchEvent(new Event("error"));
    vi.advanceTimersByTime(1000);
    expect(asked).toHaveBeenCalledTimes(1);
    image.dispatchEvent(new Event("error"));
    leave?.();
    vi.advanceTimersByTime(60_000);
    expect(asked).toHaveBeenCalledTimes(1);
  });
});
