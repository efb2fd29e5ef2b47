/** How good the line to the server is, and what follows from that. Pure. */

export interface Line {
  /** Connections lost since one last told anything. */
  losses: number;
  /** Polls that went well since the line was given up. */
  polls: number;
}

export const FRESH: Line = { losses: 0, polls: 0 };
export const LOSSES_BORNE = 3;
export const POLL_MS = 3000;
/** After so many good polls events are tried again. */
const POLLS_TO_TRUST = 20;
const RETRY_MS = 1000;

export function heard(): Line {
  return FRESH;
}

export function lost(line: Line): Line {
  return { losses: line.losses + 1, polls: 0 };
}

/** A poll went well. In the end one connection is risked again: if that is lost too, polling goes on. */
export function polled(line: Line): Line {
  const polls = line.polls + 1;
  return polls < POLLS_TO_TRUST ? { ...line, polls } : { losses: LOSSES_BORNE - 1, polls: 0 };
}

export function isPolling(line: Line): boolean {
  return line.losses >= LOSSES_BORNE;
}

/** Milliseconds until the next try. */
export function waitMs(line: Line): number {
  return isPolling(line) ? POLL_MS : RETRY_MS * Math.max(1, line.losses);
}
