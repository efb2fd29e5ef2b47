/** Whether the visitor means a card: the pointer has rested on it for a moment, or the keyboard has focused it. */

export const HOVER_MS = 150;

/** Previews are loaded only if the visitor has asked to reduce neither motion nor data. */
export function mayPlayPreviews(): boolean {
  const { connection } = navigator as Navigator & { connection?: { saveData?: boolean } };
  return !matchMedia("(prefers-reduced-motion: reduce)").matches && !connection?.saveData;
}

export class HoverIntent {
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly onchange: (intended: boolean) => void) {}

  start(): void {
    this.stop();
    this.#timer = setTimeout(() => {
      this.onchange(true);
    }, HOVER_MS);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.onchange(false);
  }
}
