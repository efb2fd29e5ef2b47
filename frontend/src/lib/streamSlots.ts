/** Limits the event streams of one browser: HTTP/1.1 allows it six connections per host, and pages need some of them. */

/** Event streams of all windows and tabs together; pages without one poll. */
export const MAX_STREAMS = 3;

/** The part of the browser's lock manager that is needed. */
export type Locks = Pick<LockManager, "request">;

/**
 * Take one of the slots, or null if all are taken. Returns a function that gives it back; the browser does that for a
 * page that ends. locks: undefined without https, where browsers have none; then nothing is limited.
 */
export async function takeStreamSlot(
  locks: Locks | undefined = (navigator as Partial<Navigator>).locks,
): Promise<(() => void) | null> {
  if (!locks) return () => undefined;
  for (let slot = 0; slot < MAX_STREAMS; slot++) {
    const giveBack = await hold(locks, `momalisa-events-${String(slot)}`);
    if (giveBack) return giveBack;
  }
  return null;
}

/** Hold a lock if it is free: until the promise that its callback returns is resolved. */
function hold(locks: Locks, name: string): Promise<(() => void) | null> {
  return new Promise((resolve) => {
    const held = locks.request(name, { ifAvailable: true }, (lock) => {
      if (lock) return new Promise<void>(resolve);
      resolve(null);
    });
    // A page that is being closed gets no locks.
    held.catch(() => {
      resolve(null);
    });
  });
}
