/** Loads a failed image again, with growing pauses, until it loads or leaves the page. */

import type { Attachment } from "svelte/attachments";

const MAX_RETRIES = 6;

/** Milliseconds before the next retry; null once there have been enough. */
export function retryDelayMs(retries: number): number | null {
  return retries < MAX_RETRIES ? 1000 * 2 ** retries : null;
}

export const retryImage: Attachment<HTMLImageElement> = (image) => {
  let retries = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const retry = (): void => {
    const delay = retryDelayMs(retries++);
    // Setting the same URL again makes the browser fetch a failed image once more.
    if (delay !== null) timer = setTimeout(() => image.setAttribute("src", image.src), delay);
  };
  image.addEventListener("error", retry);
  return () => {
    clearTimeout(timer);
    image.removeEventListener("error", retry);
  };
};
