import { expect, test, vi } from "vitest";
import type { Walk } from "../api/client";
import { Problem } from "../api/problem";
import { MAX_LOSSES, POLL_MS } from "./connection";
import { WalkWatcher, type Environment, type EventStream } from "./walkWatcher";

const walk = (revision: number, state: Walk["state"] = "rendering") => ({ id: "w", revision, state }) as Walk;

/** A watcher in an environment that fails on demand: opened streams, pending timers, responses to come. */
function unreliable() {
  const opened: (EventStream & { closed: boolean })[] = [];
  const timers: { ms: number; callback: () => void; cancelled: boolean }[] = [];
  const state = { online: true, visible: true, respond: (): Promise<Walk> => Promise.resolve(walk(1)) };
  const environment: Environment = {
    openEvents: () => {
      const stream = {
        onwalk: () => undefined,
        onlost: () => undefined,
        onfull: () => undefined,
        closed: false,
        close: () => (stream.closed = true),
      };
      opened.push(stream as EventStream & { closed: boolean });
      return stream as EventStream;
    },
    getWalk: vi.fn(() => state.respond()),
    after: (ms, callback) => {
      const timer = { ms, callback, cancelled: false };
      timers.push(timer);
      return () => (timer.cancelled = true);
    },
    isOnline: () => state.online,
    isVisible: () => state.visible,
  };
  const revisions: number[] = [];
  const troubles: string[] = [];
  const refusals: string[] = [];
  const watcher = new WalkWatcher(
    "w",
    {
      onwalk: (walk) => revisions.push(walk.revision),
      ontrouble: (trouble) => troubles.push(String(trouble)),
      onrefused: (problem) => refusals.push(problem.message),
    },
    environment,
  );
  const last = () => opened.at(-1) as EventStream & { closed: boolean };
  const runTimers = async () => {
    const due = timers.filter((timer) => !timer.cancelled);
    for (const timer of due) {
      timer.cancelled = true;
      timer.callback();
    }
    await settled();
    return due.map((timer) => timer.ms);
  };
  return { watcher, environment, opened, state, revisions, troubles, refusals, last, runTimers };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 0));

test("it fetches once, then receives every change, and closes the stream at the end", async () => {
  const { watcher, revisions, last, opened } = unreliable();
  watcher.start();
  await settled();
  last().onwalk(JSON.stringify(walk(2)));
  last().onwalk(JSON.stringify(walk(3, "done")));
  expect(revisions).toEqual([1, 2, 3]);
  expect(opened).toHaveLength(1);
  expect(last().closed).toBe(true);
});

test("a walk that has ended is not watched", async () => {
  const { watcher, state, opened } = unreliable();
  state.respond = () => Promise.resolve(walk(9, "done"));
  watcher.start();
  await settled();
  expect(opened).toHaveLength(0);
});

test("it polls after three lost connections", async () => {
  const { watcher, revisions, last, runTimers, state, environment } = unreliable();
  watcher.start();
  await settled();
  for (let loss = 0; loss < MAX_LOSSES; loss++) last().onlost(false);
  expect(last().closed).toBe(true);
  state.respond = () => Promise.resolve(walk(5));
  expect(await runTimers()).toEqual([POLL_MS]);
  expect(revisions).toEqual([1, 5]);
  expect(await runTimers()).toEqual([POLL_MS]);
  expect(environment.getWalk).toHaveBeenCalledTimes(3);
});

test("an event resets the count of losses", async () => {
  const { watcher, last, opened } = unreliable();
  watcher.start();
  await settled();
  last().onlost(false);
  last().onlost(false);
  last().onwalk(JSON.stringify(walk(2)));
  last().onlost(false);
  last().onlost(false);
  expect(last().closed).toBe(false);
  expect(opened).toHaveLength(1);
});

test("a stream that the browser gives up is opened again", async () => {
  const { watcher, last, opened, runTimers } = unreliable();
  watcher.start();
  await settled();
  last().onlost(true);
  await runTimers();
  expect(opened).toHaveLength(2);
});

test("after enough successful polls it tries events again", async () => {
  const { watcher, last, opened, runTimers } = unreliable();
  watcher.start();
  await settled();
  for (let loss = 0; loss < MAX_LOSSES; loss++) last().onlost(false);
  for (let poll = 0; poll < 30 && opened.length < 2; poll++) await runTimers();
  expect(opened).toHaveLength(2);
  last().onlost(false);
  expect(await runTimers()).toEqual([POLL_MS]);
});

test("out of sight it lets go of its stream, and back in sight it catches up", async () => {
  const { watcher, state, revisions, opened, last, environment, runTimers } = unreliable();
  watcher.start();
  await settled();
  state.visible = false;
  watcher.pause();
  expect(last().closed).toBe(true);
  expect(await runTimers()).toEqual([]);
  expect(environment.getWalk).toHaveBeenCalledTimes(1);
  state.visible = true;
  state.respond = () => Promise.resolve(walk(7));
  watcher.reconnect();
  await settled();
  expect(revisions).toEqual([1, 7]);
  expect(opened).toHaveLength(2);
  expect(last().closed).toBe(false);
});

test("a page that opens out of sight is filled once and takes no stream", async () => {
  const { watcher, state, revisions, opened, runTimers } = unreliable();
  state.visible = false;
  watcher.start();
  await settled();
  expect(revisions).toEqual([1]);
  expect(opened).toHaveLength(0);
  expect(await runTimers()).toEqual([]);
});

test("out of sight it does not retry after an outage either", async () => {
  const { watcher, state, runTimers, revisions } = unreliable();
  state.respond = () => Promise.reject(new TypeError("Failed to fetch"));
  watcher.start();
  state.visible = false;
  await settled();
  expect(await runTimers()).toEqual([]);
  state.visible = true;
  state.respond = () => Promise.resolve(walk(2));
  watcher.reconnect();
  await settled();
  expect(revisions).toEqual([2]);
});

test("without room for another stream it polls, and tries a stream again later", async () => {
  const { watcher, last, opened, revisions, runTimers, state } = unreliable();
  watcher.start();
  await settled();
  last().onfull();
  expect(last().closed).toBe(true);
  state.respond = () => Promise.resolve(walk(4));
  expect(await runTimers()).toEqual([POLL_MS]);
  expect(revisions).toEqual([1, 4]);
  for (let poll = 0; poll < 30 && opened.length < 2; poll++) await runTimers();
  expect(opened).toHaveLength(2);
});

test("while offline it reports so and sends nothing; a reconnect fetches at once", async () => {
  const { watcher, state, troubles, revisions, environment, runTimers } = unreliable();
  state.online = false;
  watcher.start();
  await runTimers();
  expect(troubles.at(-1)).toBe("offline");
  expect(environment.getWalk).not.toHaveBeenCalled();
  state.online = true;
  watcher.reconnect();
  await settled();
  expect(revisions).toEqual([1]);
  expect(troubles.at(-1)).toBe("null");
});

test("it retries during an outage of the server, but not for an unknown walk", async () => {
  const { watcher, state, troubles, refusals, revisions, runTimers } = unreliable();
  state.respond = () => Promise.reject(new Problem("Walks are unavailable.", 503));
  watcher.start();
  await settled();
  expect(troubles).toEqual(["unreachable"]);
  state.respond = () => Promise.reject(new TypeError("Failed to fetch"));
  await runTimers();
  state.respond = () => Promise.resolve(walk(1));
  await runTimers();
  expect(revisions).toEqual([1]);
  expect(refusals).toEqual([]);

  const other = unreliable();
  other.state.respond = () => Promise.reject(new Problem("There is no walk w.", 404));
  other.watcher.start();
  await settled();
  expect(other.refusals).toEqual(["There is no walk w."]);
  expect(await other.runTimers()).toEqual([]);
});

test("a response that arrives after a reconnect or a stop is ignored", async () => {
  const { watcher, state, revisions, opened } = unreliable();
  const pending: ((walk: Walk) => void)[] = [];
  state.respond = () => new Promise((resolve) => pending.push(resolve));
  watcher.start();
  watcher.reconnect();
  pending[1]?.(walk(2));
  pending[0]?.(walk(1));
  await settled();
  expect(revisions).toEqual([2]);
  expect(opened).toHaveLength(1);
  watcher.stop();
  watcher.reconnect();
  await settled();
  expect(pending).toHaveLength(2);
});
