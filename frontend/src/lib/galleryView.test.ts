import { expect, test } from "vitest";
import type { GalleryPage, Walk } from "../api/client";
import {
  appendPage, cardOf, emptyMessage, hasUnfinished, nextPage, NOTHING_LOADED, queryOf, updateWalks, viewOf, withoutNews,
  type LoadedWalks,
} from "./galleryView";

function walk(id: string, changes: Partial<Walk> = {}): Walk {
  const spec = { stops: ["red waves", "a blue spiral"], frames: 25, width: 128, height: 128 } as Walk["spec"];
  const url = `/api/v1/walks/${id}`;
  const films = { "poster.webp": `${url}/poster.webp`, "preview.mp4": `${url}/preview.mp4` };
  return { id, url, spec, state: "done", frames_ready: [], probes: [], films, queue_position: null, ...changes } as Walk;
}

const page = (ids: string[], next: string | null = null): GalleryPage => ({ walks: ids.map((id) => walk(id)), next });
const ids = (loaded: LoadedWalks) => loaded.walks.map((one) => one.id);
const empty = { films: {}, frames_ready: [], probes: [] };

test("a view survives the trip through its URL", () => {
  for (const view of [
    { q: "", mine: false, model: "" },
    { q: "a & b = “c”?", mine: true, model: "" },
    { q: "blue", mine: false, model: "sd15" },
  ]) {
    expect(viewOf(`?${queryOf(view)}`)).toEqual(view);
  }
  expect(queryOf({ q: "", mine: false, model: "" })).toBe("");
});

test("search words in a URL are normalized", () => {
  expect(viewOf("?q=%20blue%20%0A%20waves+&owner=you")).toEqual({ q: "blue waves", mine: false, model: "" });
  expect(viewOf(`?q=${"x".repeat(300)}`).q).toHaveLength(200);
});

test("pages are appended, and no walk appears twice", () => {
  const first = appendPage(NOTHING_LOADED, page(["c", "b"], "/api/v1/walks?before=2"));
  const both = appendPage(first, page(["b", "a"]));
  expect(ids(both)).toEqual(["c", "b", "a"]);
  expect(both).toMatchObject({ pages: 2, next: null });
});

test("three pages load automatically, the rest by a button, and nothing after the last", () => {
  const more = "/api/v1/walks?before=9";
  expect(nextPage(NOTHING_LOADED)).toBe("automatic");
  expect(nextPage({ walks: [], pages: 2, next: more })).toBe("automatic");
  expect(nextPage({ walks: [], pages: 3, next: more })).toBe("button");
  expect(nextPage({ walks: [], pages: 1, next: null })).toBe("none");
});

test("walks are updated in place, and newer ones are not inserted", () => {
  const loaded = appendPage(NOTHING_LOADED, page(["b", "a"]));
  const updated = updateWalks(loaded, [walk("c"), walk("b", { state: "failed" })]);
  expect(ids(updated)).toEqual(["b", "a"]);
  expect(updated.walks[0]?.state).toBe("failed");
});

test("an unfinished walk that the newest page lacks is looked up", () => {
  const loaded = { ...NOTHING_LOADED, walks: [walk("c", { state: "rendering" }), walk("b", { state: "waiting" }), walk("a")] };
  expect(withoutNews(loaded, [walk("b")]).map((one) => one.id)).toEqual(["c"]);
});

test("a gallery is unfinished while one of its newest walks is in progress", () => {
  expect(hasUnfinished(appendPage(NOTHING_LOADED, page(["a"])))).toBe(false);
  expect(hasUnfinished({ ...NOTHING_LOADED, walks: [walk("b"), walk("a", { state: "filming" })] })).toBe(true);
});

test("the card of a finished walk has a poster, a preview and no status", () => {
  expect(cardOf(walk("a", { frames_ready: [0, 1] }))).toEqual({
    picture: "/api/v1/walks/a/poster.webp",
    preview: "/api/v1/walks/a/preview.mp4",
    status: "",
  });
});

test("the card of a walk in progress shows its first ready frame, else a probe, else nothing", () => {
  const started = walk("a", { ...empty, state: "rendering", frames_ready: [5, 0] });
  expect(cardOf(started)).toEqual({ picture: "/api/v1/walks/a/frames/5.png", preview: null, status: "2 of 25 frames" });
  const probed = walk("a", { ...empty, state: "rendering", probes: [{ frame: 12, url: "/p.png" }] });
  expect(cardOf(probed)).toMatchObject({ picture: "/p.png", status: "1 of 25 frames" });
  expect(cardOf(walk("a", { ...empty, state: "waiting", queue_position: 4 }))).toEqual({
    picture: null,
    preview: null,
    status: "4th in the queue",
  });
});

test("the card of a walk that did not finish says so", () => {
  expect(cardOf(walk("a", { ...empty, state: "failed" })).status).toBe("Failed");
  expect(cardOf(walk("a", { ...empty, state: "cancelled" })).status).toBe("Cancelled");
});

test("an empty gallery says why it is empty", () => {
  const messages = [
    emptyMessage({ q: "", mine: false, model: "" }), emptyMessage({ q: "x", mine: false, model: "" }), emptyMessage({ q: "x", mine: true, model: "" }),
  ];
  expect(new Set([...messages, emptyMessage({ q: "", mine: true, model: "" })]).size).toBe(4);
  expect(emptyMessage({ q: "", mine: false, model: "sd15" })).toBe("There are no public walks made with this model yet.");
  expect(messages[1]).toContain("“x”");
});
