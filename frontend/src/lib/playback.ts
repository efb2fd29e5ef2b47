/** How a walk is played: which frame follows on which, and when. Pure. */

export type Manner = "loop" | "back";

export interface Position {
  frame: number;
  forward: boolean;
}

export const SPEEDS = [0.5, 1, 2] as const;

/** What stands next. A loop begins again at the start; there and back turns round at both ends. */
export function next({ frame, forward }: Position, frames: number, manner: Manner): Position {
  if (frames < 2) return { frame: 0, forward: true };
  if (manner === "loop") return { frame: (frame + 1) % frames, forward: true };
  const turned = forward ? frame < frames - 1 : frame === 0;
  return { frame: turned ? frame + 1 : frame - 1, forward: turned };
}

/** How many frames are due after so many milliseconds, and what is left of these. */
export function due(elapsedMs: number, frameMs: number, speed: number): { frames: number; leftMs: number } {
  const each = frameMs / speed;
  const frames = Math.floor(elapsedMs / each);
  // A tab that was away plays on; it does not catch up.
  return frames > 4 ? { frames: 1, leftMs: 0 } : { frames, leftMs: elapsedMs - frames * each };
}

export type Act = "play" | "manner" | { to: number };

/** What a key does on the stage; null for keys that are not the stage's. */
export function actOf(key: string, frame: number, frames: number): Act | null {
  switch (key) {
    case " ":
      return "play";
    case "l":
    case "L":
      return "manner";
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
