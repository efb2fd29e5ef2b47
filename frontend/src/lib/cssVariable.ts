/** Sets a CSS variable through CSSOM: the content security policy allows no style attributes. */

import type { Attachment } from "svelte/attachments";

export function cssVariable(name: `--${string}`, value: number): Attachment<HTMLElement> {
  return (element) => {
    element.style.setProperty(name, String(value));
  };
}
