/** Where on a walk the visitor is, and whether it plays. Time comes from the screen's own frames. */

import { due, next, type Act, type Manner, type Position } from "./playback";

export class Play {
  frame = $state(0);
  playing = $state(false);
  speed = $state(1);
  manner = $state<Manner>("back");
  /** Whether the visitor has chosen a frame; until then the stage shows what landed last. */
  chosen = $state(false);
  #forward = true;

  /** What a key or a button asks for. ready: whether there is a walk to play. */
  act(act: Act, ready: boolean): void {
    if (act === "manner") this.manner = this.manner === "loop" ? "back" : "loop";
    else if (act === "play") this.playing = ready && !this.playing;
    else this.show(act.to);
    if (act === "play") this.chosen ||= this.playing;
  }

  show(frame: number): void {
    this.playing = false;
    this.chosen = true;
    this.frame = frame;
  }

  /** Play while `playing`. isReady: whether a frame can be shown at once; one that cannot is waited for. */
  run(frames: number, frameMs: number, isReady: (frame: number) => boolean): () => void {
    let before: number | null = null;
    let elapsed = 0;
    const tick = (now: number) => {
      elapsed += before === null ? 0 : now - before;
      before = now;
      const steps = due(elapsed, frameMs, this.speed);
      elapsed = steps.leftMs;
      for (let step = 0; step < steps.frames; step++) this.#step(frames, isReady);
      handle = requestAnimationFrame(tick);
    };
    let handle = requestAnimationFrame(tick);
    return () => {
      cancelAnimationFrame(handle);
    };
  }

  #step(frames: number, isReady: (frame: number) => boolean): void {
    const position: Position = next({ frame: this.frame, forward: this.#forward }, frames, this.manner);
    if (!isReady(position.frame)) return;
    this.frame = position.frame;
    this.#forward = position.forward;
  }
}
