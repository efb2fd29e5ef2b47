/** Drags, pinches and taps on a picture that is cropped, as moves and zooms. */

/** Pixels that a finger may slip during a tap. */
const TAP_PX = 6;

type Change = (right: number, down: number, enlarged: number) => void;
type PointerLike = Pick<PointerEvent, "pointerId" | "clientX" | "clientY" | "currentTarget">;

export class CropGesture {
  readonly #pointers = new Map<number, { x: number; y: number }>();
  #travelled = 0;

  /** onchange: called with moves, as shares of what is seen to the right and down, and with the zoom's factor. */
  constructor(private readonly onchange: Change) {}

  begin(event: PointerLike): void {
    const element = event.currentTarget;
    if (element instanceof Element) element.setPointerCapture(event.pointerId);
    if (!this.#pointers.size) this.#travelled = 0;
    this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  }

  move(event: PointerLike): void {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const spread = this.#spread();
    const after = { x: event.clientX, y: event.clientY };
    this.#pointers.set(event.pointerId, after);
    this.#travelled += Math.hypot(after.x - before.x, after.y - before.y);
    const { width, height } = boxOf(event);
    // Two fingers move the picture together: each of them by half.
    const share = 1 / this.#pointers.size;
    // What is seen moves against the finger.
    const [right, down] = [((before.x - after.x) / width) * share, ((before.y - after.y) / height) * share];
    this.onchange(right, down, spread ? this.#spread() / spread : 1);
  }

  end(event: PointerLike): void {
    if (!this.#pointers.delete(event.pointerId) || this.#pointers.size || this.#travelled > TAP_PX) return;
    const { left, top, width, height } = boxOf(event);
    this.onchange((event.clientX - left) / width - 0.5, (event.clientY - top) / height - 0.5, 1);
  }

  /** The distance between two fingers; 0 with fewer. */
  #spread(): number {
    const [one, other] = [...this.#pointers.values()];
    return one && other ? Math.hypot(one.x - other.x, one.y - other.y) : 0;
  }
}

function boxOf({ currentTarget }: PointerLike): DOMRect {
  return currentTarget instanceof Element ? currentTarget.getBoundingClientRect() : new DOMRect(0, 0, 1, 1);
}
