/** The order and timing in which frames are played, and the keys of the player. Pure. */

export type PlaybackMode = "loop" | "back";

export interface Position {
  frame: number;
  forward: boolean;
}

export const SPEEDS = [0.5, 1, 2] as const;

/** The position after this one. A loop restarts at the first frame; there and back turns round at both ends. */
export function next({ frame, forward }: Position, frames: number, mode: PlaybackMode): Position {
  if (frames < 2) return { frame: 0, forward: true };
  if (mode === "loop") return { frame: (frame + 1) % frames, forward: true };
  const nowForward = forward ? frame < frames - 1 : frame === 0;
  return { frame: nowForward ? frame + 1 : frame - 1, forward: nowForward };
}

/** How many frames are due after this many milliseconds, and how many milliseconds remain. */
export function framesDue(elapsedMs: number, frameMs: number, speed: number): { frames: number; leftMs: number } {
  const interval = frameMs / speed;
  const frames = Math.floor(elapsedMs / interval);
  // A tab that was in the background continues where it was, instead of skipping ahead.
  return frames > 4 ? { frames: 1, leftMs: 0 } : { frames, leftMs: elapsedMs - frames * interval };
}

export type PlayerAction = "play" | "mode" | { to: number };

/** What a key does in the player; null for keys that it leaves to the browser. */
export function actionOf(key: string, frame: number, frames: number): PlayerAction | null {
  switch (key) {
    case " ":
      return "play";
    case "l":
    case "L":
      return "mode";
    case "ArrowRight":
    case "ArrowUp":
      return { to: Math.min(frame + 1, frames - 1) };
    case "ArrowLeft":
    case "ArrowDown":
      return { to: Math.max(frame - 1, 0) };
    case "Home":
      return { to: 0 };
    case "End":
      return { to: frames - 1 };
    default:
      return null;
  }
}
