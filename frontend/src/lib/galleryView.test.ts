import { expect, test } from "vitest";
import type { GalleryPage, Walk } from "../api/client";
import { BARE, cardOf, emptyOf, hang, isGrowing, queryOf, renewed, viewOf, type Wall, whoAsks } from "./galleryView";

function walk(id: string, changes: Partial<Walk> = {}): Walk {
  const spec = { stops: ["red waves", "a blue spiral"], frames: 25, width: 128, height: 128 } as Walk["spec"];
  const url = `/api/v1/walks/${id}`;
  const films = { "poster.webp": `${url}/poster.webp`, "preview.mp4": `${url}/preview.mp4` };
  return { id, url, spec, state: "done", landed: [], probes: [], films, place_in_line: null, ...changes } as Walk;
}

const page = (ids: string[], next: string | null = null): GalleryPage => ({ walks: ids.map((id) => walk(id)), next });
const ids = (wall: Wall) => wall.walks.map((one) => one.id);
const bare = { films: {}, landed: [], probes: [] };

test("a view and its address say the same", () => {
  for (const view of [
    { q: "", mine: false },
    { q: "a & b = “c”?", mine: true },
    { q: "blue", mine: false },
  ]) {
    expect(viewOf(`?${queryOf(view)}`)).toEqual(view);
  }
  expect(queryOf({ q: "", mine: false })).toBe("");
});

test("words of an address are taken as they are searched for", () => {
  expect(viewOf("?q=%20blue%20%0A%20waves+&owner=you")).toEqual({ q: "blue waves", mine: false });
  expect(viewOf(`?q=${"x".repeat(300)}`).q).toHaveLength(200);
});

test("pages hang one after the other, and no walk hangs twice", () => {
  const first = hang(BARE, page(["c", "b"], "/api/v1/walks?before=2"));
  const both = hang(first, page(["b", "a"]));
  expect(ids(both)).toEqual(["c", "b", "a"]);
  expect(both).toMatchObject({ pages: 2, next: null });
});

test("three pages come by themselves, the rest when asked for, and then nothing", () => {
  const more = "/api/v1/walks?before=9";
  expect(whoAsks(BARE)).toBe("wall");
  expect(whoAsks({ walks: [], pages: 2, next: more })).toBe("wall");
  expect(whoAsks({ walks: [], pages: 3, next: more })).toBe("visitor");
  expect(whoAsks({ walks: [], pages: 1, next: null })).toBe("nobody");
});

test("walks are renewed where they hang, and newer ones do not push in", () => {
  const wall = hang(BARE, page(["b", "a"]));
  const now = renewed(wall, [walk("c"), walk("b", { state: "failed" })]);
  expect(ids(now)).toEqual(["b", "a"]);
  expect(now.walks[0]?.state).toBe("failed");
});

test("a wall grows while one of its newest walks is on its way", () => {
  expect(isGrowing(hang(BARE, page(["a"])))).toBe(false);
  expect(isGrowing({ ...BARE, walks: [walk("b"), walk("a", { state: "filming" })] })).toBe(true);
});

test("a finished walk shows its poster, has a film, and says nothing", () => {
  expect(cardOf(walk("a", { landed: [0, 1] }))).toEqual({
    picture: "/api/v1/walks/a/poster.webp",
    preview: "/api/v1/walks/a/preview.mp4",
    says: "",
  });
});

test("a walk on its way shows the first frame that landed, else a probe, else nothing", () => {
  const landed = walk("a", { ...bare, state: "rendering", landed: [5, 0] });
  expect(cardOf(landed)).toEqual({ picture: "/api/v1/walks/a/frames/5.png", preview: null, says: "2 of 25" });
  const probed = walk("a", { ...bare, state: "rendering", probes: [{ frame: 12, url: "/p.png" }] });
  expect(cardOf(probed)).toMatchObject({ picture: "/p.png", says: "0 of 25" });
  expect(cardOf(walk("a", { ...bare, state: "waiting", place_in_line: 4 }))).toEqual({
    picture: null,
    preview: null,
    says: "4th in line",
  });
});

test("a walk that ended otherwise says how", () => {
  expect(cardOf(walk("a", { ...bare, state: "failed" })).says).toBe("Failed");
  expect(cardOf(walk("a", { ...bare, state: "cancelled" })).says).toBe("Cancelled");
});

test("an empty wall says why", () => {
  const said = [emptyOf({ q: "", mine: false }), emptyOf({ q: "x", mine: false }), emptyOf({ q: "x", mine: true })];
  expect(new Set([...said, emptyOf({ q: "", mine: true })]).size).toBe(4);
  expect(said[1]).toContain("“x”");
});
