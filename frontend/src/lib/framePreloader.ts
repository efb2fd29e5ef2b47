/** Fetches and decodes frames ahead of time, so that a walk plays without flicker. */

const RETRY_MS = 2000;

export class FramePreloader {
  readonly #images = new Map<string, HTMLImageElement>();

  /** Load a frame. One that fails can be loaded again a little later. */
  load(url: string): void {
    if (this.#images.has(url)) return;
    const image = new Image();
    image.decoding = "async";
    image.src = url;
    this.#images.set(url, image);
    image.decode().catch(() => setTimeout(() => this.#images.delete(url), RETRY_MS));
  }

  isLoaded(url: string): boolean {
    const image = this.#images.get(url);
    return image !== undefined && image.complete && image.naturalWidth > 0;
  }
}
