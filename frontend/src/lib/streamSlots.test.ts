import { expect, test } from "vitest";
import { MAX_STREAMS, takeStreamSlot, type Locks } from "./streamSlots";

/** The lock manager of a browser: a lock is held until the promise of its callback is resolved. */
function lockManager(): Locks {
  const held = new Set<string>();
  const request = async (name: string, _: LockOptions, callback: LockGrantedCallback<unknown>): Promise<unknown> => {
    if (held.has(name)) return callback(null);
    held.add(name);
    await callback({ name, mode: "exclusive" });
    held.delete(name);
    return undefined;
  };
  return { request } as Locks;
}

test("a browser has three slots, and one that is given back is taken again", async () => {
  const locks = lockManager();
  const taken = [];
  for (let page = 0; page < MAX_STREAMS; page++) taken.push(await takeStreamSlot(locks));
  expect(taken.every((giveBack) => giveBack !== null)).toBe(true);
  expect(await takeStreamSlot(locks)).toBeNull();
  taken[1]?.();
  await Promise.resolve();
  expect(await takeStreamSlot(locks)).not.toBeNull();
  expect(await takeStreamSlot(locks)).toBeNull();
});

test("without locks, as without https, nothing is limited", async () => {
  for (let page = 0; page < 10; page++) expect(await takeStreamSlot(undefined)).not.toBeNull();
});

test("a page that gets no locks takes no slot", async () => {
  const request = () => Promise.reject(new DOMException("closing", "InvalidStateError"));
  expect(await takeStreamSlot({ request } as unknown as Locks)).toBeNull();
});
