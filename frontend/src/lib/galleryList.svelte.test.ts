import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Walk } from "../api/client";
import { GalleryList } from "./galleryList.svelte";

interface Call {
  url: URL;
  respond: (body: unknown, status?: number) => void;
  fail: () => void;
}

let calls: Call[] = [];
const NEXT = "/api/v1/walks?before=5&limit=24";
const page = (id: string, next: string | null = null) => ({ walks: [{ id, state: "done" }], next });
const all = { q: "", mine: false, model: "" };

beforeEach(() => {
  calls = [];
  vi.stubGlobal(
    "fetch",
    (request: Request) =>
      new Promise<Response>((resolve, reject) => {
        calls.push({
          url: new URL(request.url),
          respond: (body, status = 200) => {
            resolve(Response.json(body, { status }));
          },
          fail: () => {
            reject(new TypeError("no connection"));
          },
        });
      }),
  );
});
afterEach(() => {
  vi.unstubAllGlobals();
});

test("a view is requested by its words and its owner, one page at a time", async () => {
  const list = new GalleryList();
  const opened = list.open({ q: "blue", mine: true, model: "" });
  expect(list.loading).toBe(true);
  calls[0]?.respond(page("b", NEXT));
  await opened;
  expect(Object.fromEntries(calls[0]?.url.searchParams ?? [])).toEqual({ q: "blue", owner: "me", limit: "24" });
  const more = list.more();
  calls[1]?.respond(page("a"));
  await more;
  expect(calls[1]?.url.searchParams.get("before")).toBe("5");
  expect(list.loaded.walks.map((walk) => walk.id)).toEqual(["b", "a"]);
  expect(list.loading).toBe(false);
});

test("a response to an older search changes nothing", async () => {
  const list = new GalleryList();
  const older = list.open({ q: "b", mine: false, model: "" });
  const newer = list.open({ q: "blue", mine: false, model: "" });
  calls[1]?.respond(page("new"));
  await newer;
  calls[0]?.respond(page("old"));
  await older;
  expect(list.view?.q).toBe("blue");
  expect(list.loaded.walks.map((walk) => walk.id)).toEqual(["new"]);
});

test("an error is a message, and the loaded walks stay", async () => {
  const list = new GalleryList();
  const opened = list.open(all);
  calls[0]?.respond(page("a", NEXT));
  await opened;
  const more = list.more();
  calls[1]?.respond({ detail: "The database is not responding. Retry in a minute." }, 503);
  await more;
  expect(list.error).toBe("The database is not responding. Retry in a minute.");
  expect(list.loaded.walks).toHaveLength(1);
  const retried = list.more();
  calls[2]?.fail();
  await retried;
  expect(list.error).toContain("cannot be reached");
});

test("a failed search does not leave the walks of the search before", async () => {
  const list = new GalleryList({ loaded: { walks: [], pages: 1, next: null }, view: all });
  const opened = list.open({ q: "blue", mine: false, model: "" });
  calls[0]?.fail();
  await opened;
  expect(list.view).toBeNull();
  expect(list.error).not.toBe("");
});

test("kept walks are shown again without a call", () => {
  const loaded = { walks: [], pages: 3, next: NEXT };
  const list = new GalleryList({ loaded, view: all });
  expect(list.loaded).toStrictEqual(loaded);
  expect(calls).toHaveLength(0);
});

test("a page is requested only once", async () => {
  const list = new GalleryList({ loaded: { walks: [], pages: 1, next: NEXT }, view: all });
  const first = list.more();
  await list.more();
  expect(calls).toHaveLength(1);
  calls[0]?.respond(page("a"));
  await first;
});

test("a walk that fails while the gallery is open is shown as failed, though no new page has it", async () => {
  const walks = [{ id: "b", state: "rendering" }, { id: "a", state: "done" }] as Walk[];
  const list = new GalleryList({ loaded: { walks, pages: 1, next: null }, view: all });
  const refreshed = list.refresh();
  calls[0]?.respond(page("a"));
  await vi.waitFor(() => {
    expect(calls).toHaveLength(2);
  });
  expect(calls[1]?.url.pathname).toBe("/api/v1/walks/b");
  calls[1]?.respond({ id: "b", state: "failed" });
  await refreshed;
  expect(list.loaded.walks.map((walk) => walk.state)).toEqual(["failed", "done"]);
});
