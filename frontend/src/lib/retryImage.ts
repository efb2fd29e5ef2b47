/** A picture that did not come is asked for again, more and more slowly, until it comes or leaves the page. */

import type { Attachment } from "svelte/attachments";

const TRIES = 6;

/** Milliseconds before the try after so many; null: it is not to be had. */
export function pause(tries: number): number | null {
  return tries < TRIES ? 1000 * 2 ** tries : null;
}

export const persist: Attachment<HTMLImageElement> = (image) => {
  let tries = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const again = (): void => {
    const wait = pause(tries++);
    // The same address once more: a browser fetches anew what failed.
    if (wait !== null) timer = setTimeout(() => image.setAttribute("src", image.src), wait);
  };
  image.addEventListener("error", again);
  return () => {
    clearTimeout(timer);
    image.removeEventListener("error", again);
  };
};
