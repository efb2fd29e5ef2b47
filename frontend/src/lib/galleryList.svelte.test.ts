import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Hanging } from "./galleryList.svelte";

interface Call {
  url: URL;
  answer: (body: unknown, status?: number) => void;
  fail: () => void;
}

let calls: Call[] = [];
const NEXT = "/api/v1/walks?before=5&limit=24";
const page = (id: string, next: string | null = null) => ({ walks: [{ id, state: "done" }], next });
const all = { q: "", mine: false };

beforeEach(() => {
  calls = [];
  vi.stubGlobal(
    "fetch",
    (request: Request) =>
      new Promise<Response>((resolve, reject) => {
        calls.push({
          url: new URL(request.url),
          answer: (body, status = 200) => {
            resolve(Response.json(body, { status }));
          },
          fail: () => {
            reject(new TypeError("no line"));
          },
        });
      }),
  );
});
afterEach(() => {
  vi.unstubAllGlobals();
});

test("a view is asked for by its words and its owner, a page at a time", async () => {
  const hanging = new Hanging();
  const opened = hanging.open({ q: "blue", mine: true });
  expect(hanging.loading).toBe(true);
  calls[0]?.answer(page("b", NEXT));
  await opened;
  expect(Object.fromEntries(calls[0]?.url.searchParams ?? [])).toEqual({ q: "blue", owner: "me", limit: "24" });
  const more = hanging.more();
  calls[1]?.answer(page("a"));
  await more;
  expect(calls[1]?.url.searchParams.get("before")).toBe("5");
  expect(hanging.wall.walks.map((walk) => walk.id)).toEqual(["b", "a"]);
  expect(hanging.loading).toBe(false);
});

test("an answer to an older search changes nothing", async () => {
  const hanging = new Hanging();
  const older = hanging.open({ q: "b", mine: false });
  const newer = hanging.open({ q: "blue", mine: false });
  calls[1]?.answer(page("new"));
  await newer;
  calls[0]?.answer(page("old"));
  await older;
  expect(hanging.view?.q).toBe("blue");
  expect(hanging.wall.walks.map((walk) => walk.id)).toEqual(["new"]);
});

test("what went wrong is a sentence, and what hangs stays", async () => {
  const hanging = new Hanging();
  const opened = hanging.open(all);
  calls[0]?.answer(page("a", NEXT));
  await opened;
  const more = hanging.more();
  calls[1]?.answer({ detail: "The catalogue is away. Try again in a minute." }, 503);
  await more;
  expect(hanging.trouble).toBe("The catalogue is away. Try again in a minute.");
  expect(hanging.wall.walks).toHaveLength(1);
  const again = hanging.more();
  calls[2]?.fail();
  await again;
  expect(hanging.trouble).toContain("cannot be reached");
});

test("a search that went wrong does not leave the one before as its answer", async () => {
  const hanging = new Hanging({ wall: { walks: [], pages: 1, next: null }, view: all });
  const opened = hanging.open({ q: "blue", mine: false });
  calls[0]?.fail();
  await opened;
  expect(hanging.view).toBeNull();
  expect(hanging.trouble).not.toBe("");
});

test("what was kept hangs again without a call", () => {
  const wall = { walks: [], pages: 3, next: NEXT };
  const hanging = new Hanging({ wall, view: all });
  expect(hanging.wall).toStrictEqual(wall);
  expect(calls).toHaveLength(0);
});

test("one page is asked for once", async () => {
  const hanging = new Hanging({ wall: { walks: [], pages: 1, next: NEXT }, view: all });
  const first = hanging.more();
  await hanging.more();
  expect(calls).toHaveLength(1);
  calls[0]?.answer(page("a"));
  await first;
});
