/** Measures that only script knows, for the style sheet. The headers allow no style attributes; this is CSSOM. */

import type { Attachment } from "svelte/attachments";

export function measure(name: `--${string}`, value: number): Attachment<HTMLElement> {
  return (element) => {
    element.style.setProperty(name, String(value));
  };
}
