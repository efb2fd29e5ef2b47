/** How reliable the event stream has been, and when to poll instead. Pure. */

export interface Connection {
  /** Connections lost since the last event. */
  losses: number;
  /** Successful polls since the event stream was given up. */
  polls: number;
}

export const NEW_CONNECTION: Connection = { losses: 0, polls: 0 };
export const MAX_LOSSES = 3;
export const POLL_MS = 3000;
/** After this many successful polls the event stream is tried again. */
const POLLS_BEFORE_EVENTS = 20;
const RETRY_MS = 1000;
/** The connection of a page that gets no event stream. */
export const WITHOUT_EVENTS: Connection = { losses: MAX_LOSSES, polls: 0 };

export function afterEvent(): Connection {
  return NEW_CONNECTION;
}

export function afterLoss(connection: Connection): Connection {
  return { losses: connection.losses + 1, polls: 0 };
}

/** After enough successful polls one event stream is tried again; if that is lost too, polling continues. */
export function afterPoll(connection: Connection): Connection {
  const polls = connection.polls + 1;
  return polls < POLLS_BEFORE_EVENTS ? { ...connection, polls } : { losses: MAX_LOSSES - 1, polls: 0 };
}

export function isPolling(connection: Connection): boolean {
  return connection.losses >= MAX_LOSSES;
}

/** Milliseconds until the next attempt. */
export function retryDelayMs(connection: Connection): number {
  return isPolling(connection) ? POLL_MS : RETRY_MS * Math.max(1, connection.losses);
}
