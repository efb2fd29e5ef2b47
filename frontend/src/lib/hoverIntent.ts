/** Whether somebody lingers on something: the pointer rests on it for a while, or the keyboard has come to it. */

export const LINGER_MS = 150;

/** A film that nobody asked to see is fetched only where motion and bytes are welcome. */
export function filmsAreWelcome(): boolean {
  const { connection } = navigator as Navigator & { connection?: { saveData?: boolean } };
  return !matchMedia("(prefers-reduced-motion: reduce)").matches && !connection?.saveData;
}

export class Linger {
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly changed: (lingers: boolean) => void) {}

  start(): void {
    this.stop();
    this.#timer = setTimeout(() => {
      this.changed(true);
    }, LINGER_MS);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.changed(false);
  }
}
