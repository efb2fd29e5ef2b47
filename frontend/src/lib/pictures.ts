/** Frames fetched and decoded ahead, so that a walk plays without a blink. */

export class Pictures {
  readonly #held = new Map<string, HTMLImageElement>();

  /** Hold a picture ready. One that does not come is asked for again by whoever shows it. */
  prepare(url: string): void {
    if (this.#held.has(url)) return;
    const picture = new Image();
    picture.decoding = "async";
    picture.src = url;
    this.#held.set(url, picture);
    picture.decode().catch(() => this.#held.delete(url));
  }

  isReady(url: string): boolean {
    const picture = this.#held.get(url);
    return picture !== undefined && picture.complete && picture.naturalWidth > 0;
  }
}
