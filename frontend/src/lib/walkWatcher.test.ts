import { expect, test, vi } from "vitest";
import type { Walk } from "../api/client";
import { Problem } from "../api/problem";
import { LOSSES_BORNE, POLL_MS } from "./connection";
import { Watch, type Events, type World } from "./walkWatcher";

const walk = (revision: number, state: Walk["state"] = "rendering") => ({ id: "w", revision, state }) as Walk;

/** A world that breaks on demand: lines that were opened, timers that wait, answers to come. */
function broken() {
  const opened: (Events & { closed: boolean })[] = [];
  const timers: { ms: number; what: () => void; off: boolean }[] = [];
  const state = { online: true, answer: (): Promise<Walk> => Promise.resolve(walk(1)) };
  const world: World = {
    open: () => {
      const events = { onwalk: () => undefined, onlost: () => undefined, closed: false, close: () => (events.closed = true) };
      opened.push(events as Events & { closed: boolean });
      return events as Events;
    },
    get: vi.fn(() => state.answer()),
    later: (ms, what) => {
      const timer = { ms, what, off: false };
      timers.push(timer);
      return () => (timer.off = true);
    },
    online: () => state.online,
  };
  const told: number[] = [];
  const troubles: string[] = [];
  const refused: string[] = [];
  const watch = new Watch(
    "w",
    {
      told: (walk) => told.push(walk.revision),
      trouble: (trouble) => troubles.push(String(trouble)),
      refused: (problem) => refused.push(problem.message),
    },
    world,
  );
  const last = () => opened.at(-1) as Events & { closed: boolean };
  const pass = async () => {
    const due = timers.filter((timer) => !timer.off);
    for (const timer of due) {
      timer.off = true;
      timer.what();
    }
    await settled();
    return due.map((timer) => timer.ms);
  };
  return { watch, world, opened, state, told, troubles, refused, last, pass };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 0));

test("it asks once, then hears of every change, and hangs up at the end", async () => {
  const { watch, told, last, opened } = broken();
  watch.start();
  await settled();
  last().onwalk(JSON.stringify(walk(2)));
  last().onwalk(JSON.stringify(walk(3, "done")));
  expect(told).toEqual([1, 2, 3]);
  expect(opened).toHaveLength(1);
  expect(last().closed).toBe(true);
});

test("a walk that has ended is not watched", async () => {
  const { watch, state, opened } = broken();
  state.answer = () => Promise.resolve(walk(9, "done"));
  watch.start();
  await settled();
  expect(opened).toHaveLength(0);
});

test("after three lost connections it polls", async () => {
  const { watch, told, last, pass, state, world } = broken();
  watch.start();
  await settled();
  for (let loss = 0; loss < LOSSES_BORNE; loss++) last().onlost(false);
  expect(last().closed).toBe(true);
  state.answer = () => Promise.resolve(walk(5));
  expect(await pass()).toEqual([POLL_MS]);
  expect(told).toEqual([1, 5]);
  expect(await pass()).toEqual([POLL_MS]);
  expect(world.get).toHaveBeenCalledTimes(3);
});

test("two losses with news between them are borne", async () => {
  const { watch, last, opened } = broken();
  watch.start();
  await settled();
  last().onlost(false);
  last().onlost(false);
  last().onwalk(JSON.stringify(walk(2)));
  last().onlost(false);
  last().onlost(false);
  expect(last().closed).toBe(false);
  expect(opened).toHaveLength(1);
});

test("a line that the browser gives up is opened anew", async () => {
  const { watch, last, opened, pass } = broken();
  watch.start();
  await settled();
  last().onlost(true);
  await pass();
  expect(opened).toHaveLength(2);
});

test("polling that goes well risks events again in the end", async () => {
  const { watch, last, opened, pass } = broken();
  watch.start();
  await settled();
  for (let loss = 0; loss < LOSSES_BORNE; loss++) last().onlost(false);
  for (let poll = 0; poll < 30 && opened.length < 2; poll++) await pass();
  expect(opened).toHaveLength(2);
  last().onlost(false);
  expect(await pass()).toEqual([POLL_MS]);
});

test("offline says so and asks nobody; waking asks at once", async () => {
  const { watch, state, troubles, told, world, pass } = broken();
  state.online = false;
  watch.start();
  await pass();
  expect(troubles.at(-1)).toBe("offline");
  expect(world.get).not.toHaveBeenCalled();
  state.online = true;
  watch.wake();
  await settled();
  expect(told).toEqual([1]);
  expect(troubles.at(-1)).toBe("null");
});

test("an outage of the server is waited for, an unknown walk is not", async () => {
  const { watch, state, troubles, refused, told, pass } = broken();
  state.answer = () => Promise.reject(new Problem("Walks are out of reach.", 503));
  watch.start();
  await settled();
  expect(troubles).toEqual(["unreachable"]);
  state.answer = () => Promise.reject(new TypeError("Failed to fetch"));
  await pass();
  state.answer = () => Promise.resolve(walk(1));
  await pass();
  expect(told).toEqual([1]);
  expect(refused).toEqual([]);

  const other = broken();
  other.state.answer = () => Promise.reject(new Problem("There is no walk w.", 404));
  other.watch.start();
  await settled();
  expect(other.refused).toEqual(["There is no walk w."]);
  expect(await other.pass()).toEqual([]);
});

test("an answer that comes after one has woken, or gone, is left out", async () => {
  const { watch, state, told, opened } = broken();
  const late: ((walk: Walk) => void)[] = [];
  state.answer = () => new Promise((resolve) => late.push(resolve));
  watch.start();
  watch.wake();
  late[1]?.(walk(2));
  late[0]?.(walk(1));
  await settled();
  expect(told).toEqual([2]);
  expect(opened).toHaveLength(1);
  watch.stop();
  watch.wake();
  await settled();
  expect(late).toHaveLength(2);
});
