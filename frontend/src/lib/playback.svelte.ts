/** The state of the player: the current frame, and whether it plays. Timed by requestAnimationFrame. */

import { framesDue, next, type PlaybackMode, type PlayerAction, type Position } from "./playback";

export class Playback {
  frame = $state(0);
  playing = $state(false);
  speed = $state(1);
  mode = $state<PlaybackMode>("back");
  /** Whether the visitor has chosen a frame; until then the player shows the newest one. */
  chosen = $state(false);
  #forward = true;
  #mayStart = true;

  /** mode: the one to begin with. */
  constructor(mode: PlaybackMode = "back") {
    this.mode = mode;
  }

  /** Perform the action of a key or a button. ready: whether all frames are there. */
  act(action: PlayerAction, ready: boolean): void {
    this.#mayStart = false;
    if (action === "mode") this.mode = this.mode === "loop" ? "back" : "loop";
    else if (action === "play") this.playing = ready && !this.playing;
    else this.show(action.to);
    if (action === "play") this.chosen ||= this.playing;
  }

  /** Play a finished walk, once, and only if the visitor has not used the player before. */
  autoplay(): void {
    if (!this.#mayStart) return;
    this.#mayStart = false;
    this.playing = true;
  }

  show(frame: number): void {
    this.playing = false;
    this.chosen = true;
    this.frame = frame;
  }

  /** Advance frames until the returned function is called. isLoaded: a frame that is not loaded is waited for. */
  run(frames: number, frameMs: number, isLoaded: (frame: number) => boolean): () => void {
    let before: number | null = null;
    let elapsed = 0;
    const tick = (now: number) => {
      elapsed += before === null ? 0 : now - before;
      before = now;
      const due = framesDue(elapsed, frameMs, this.speed);
      elapsed = due.leftMs;
      for (let step = 0; step < due.frames; step++) this.#step(frames, isLoaded);
      handle = requestAnimationFrame(tick);
    };
    let handle = requestAnimationFrame(tick);
    return () => {
      cancelAnimationFrame(handle);
    };
  }

  #step(frames: number, isLoaded: (frame: number) => boolean): void {
    const position: Position = next({ frame: this.frame, forward: this.#forward }, frames, this.mode);
    if (!isLoaded(position.frame)) return;
    this.frame = position.frame;
    this.#forward = position.forward;
  }
}
