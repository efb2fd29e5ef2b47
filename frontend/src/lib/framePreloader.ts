/** Frames fetched and decoded ahead, so that a walk plays without a blink. */

const RETRY_MS = 2000;

export class Pictures {
  readonly #held = new Map<string, HTMLImageElement>();

  /** Hold a picture ready. One that did not come may be asked for again a little later. */
  prepare(url: string): void {
    if (this.#held.has(url)) return;
    const picture = new Image();
    picture.decoding = "async";
    picture.src = url;
    this.#held.set(url, picture);
    picture.decode().catch(() => setTimeout(() => this.#held.delete(url), RETRY_MS));
  }

  isReady(url: string): boolean {
    const picture = this.#held.get(url);
    return picture !== undefined && picture.complete && picture.naturalWidth > 0;
  }
}
