import { expect, test } from "vitest";
import { specIn } from "./filmSpec";

const SPEC = { stops: ["a giraffe 🦒", "a “battleship”"], frames: 25, seed: 7, spacing: "ease", model: "atelier", revision: "1", width: 64 };
const TEXT = JSON.stringify(SPEC);

const ascii = (text: string) => [...text].map((character) => character.charCodeAt(0));
const utf8 = (text: string) => [...new TextEncoder().encode(text)];
const u16 = (value: number) => [value >> 8, value & 255];
const u32 = (value: number) => [...u16(value >>> 16), ...u16(value & 0xffff)];
const fileOf = (...parts: number[][]) => Uint8Array.from(parts.flat()).buffer;

function subBlocks(bytes: number[]): number[] {
  const blocks: number[] = [];
  for (let at = 0; at < bytes.length; at += 255) blocks.push(Math.min(255, bytes.length - at), ...bytes.slice(at, at + 255));
  return [...blocks, 0];
}

function gif(comment: string, before: number[] = []): ArrayBuffer {
  return fileOf(ascii("GIF89a"), [1, 0, 1, 0, 0x70, 0, 0], before, [0x21, 0xfe], subBlocks(utf8(comment)), [0x3b]);
}

const box = (type: string, ...parts: number[][]) => {
  const content = parts.flat();
  return [...u32(8 + content.length), ...ascii(type), ...content];
};

function mp4(comment: string): ArrayBuffer {
  const data = box("data", u32(1), u32(0), utf8(comment));
  const meta = box("meta", u32(0), box("hdlr", u32(0)), box("ilst", box("\xa9too", u32(0)), box("\xa9cmt", data)));
  return fileOf(box("ftyp", ascii("isom"), u32(512)), box("moov", box("mvhd", u32(0)), box("udta", meta)), box("mdat", u32(0)));
}

/** Exif with a UserComment; big: in the order of bytes of Motorola. */
function exif(comment: string, { big = false, code = "UNICODE\0" } = {}): number[] {
  const ordered = (bytes: number[]) => (big ? bytes : bytes.toReversed());
  const utf16 = [...comment].join("").split("").flatMap((unit) => ordered(u16(unit.charCodeAt(0))));
  const content = [...ascii(code), ...(code === "UNICODE\0" ? utf16 : utf8(comment))];
  const directory = (tag: number, type: number, count: number, value: number) => [
    ...ordered(u16(1)), ...ordered(u16(tag)), ...ordered(u16(type)), ...ordered(u32(count)), ...ordered(u32(value)), ...u32(0),
  ];
  const start = [...ascii(big ? "MM" : "II"), ...ordered(u16(42)), ...ordered(u32(8))];
  return [...start, ...directory(0x8769, 4, 1, 26), ...directory(0x9286, 7, content.length, 44), ...content];
}

function webp(data: number[]): ArrayBuffer {
  const chunk = (type: string, content: number[]) => [
    ...ascii(type), ...u32(content.length).toReversed(), ...content, ...(content.length % 2 ? [0] : []),
  ];
  return fileOf(ascii("RIFF"), u32(0), ascii("WEBP"), chunk("VP8X", [1, 2, 3]), chunk("EXIF", data));
}

function jpeg(data: number[]): ArrayBuffer {
  const segment = (kind: number, content: number[]) => [0xff, kind, ...u16(content.length + 2), ...content];
  return fileOf([0xff, 0xd8], segment(0xe0, ascii("JFIF\0")), segment(0xe1, [...ascii("Exif\0\0"), ...data]), [0xff, 0xda]);
}

const LOOP = [0x21, 0xff, 11, ...ascii("NETSCAPE2.0"), 3, 1, 0, 0, 0];
const PICTURE = [0x2c, ...u32(0), ...u32(0), 0x80, 1, 2, 3, 4, 5, 6, 8, 2, 9, 9, 0];
const FILMS: Record<string, ArrayBuffer> = {
  gif: gif(TEXT, LOOP),
  "gif with a picture before its comment": gif(TEXT, [...LOOP, ...PICTURE]),
  mp4: mp4(TEXT),
  webp: webp(exif(TEXT)),
  "webp with a prefix": webp([...ascii("Exif\0\0"), ...exif(TEXT)]),
  jpeg: jpeg(exif(TEXT)),
  "jpeg of another byte order": jpeg(exif(TEXT, { big: true })),
  "jpeg in ASCII": jpeg(exif(TEXT, { code: "ASCII\0\0\0" })),
};

test.each(Object.entries(FILMS))("a %s brings its spec back", (_, film) => {
  expect(specIn(film)).toEqual(SPEC);
});

test.each(Object.entries(FILMS))("a %s that is cut off anywhere has no spec or the whole one", (_, film) => {
  for (let length = 0; length < film.byteLength; length++) {
    const spec = specIn(film.slice(0, length));
    if (spec) expect(spec).toEqual(SPEC);
  }
});

test.each(Object.entries(FILMS))("a %s with any one damaged byte is read or refused", (_, film) => {
  for (let at = 0; at < film.byteLength; at++) {
    for (const value of [0, 1, 0x7f, 0xff]) {
      const damaged = new Uint8Array(film.slice(0));
      damaged[at] = value;
      expect(() => specIn(damaged.buffer)).not.toThrow();
    }
  }
});

test("other files have no spec", () => {
  expect(specIn(new ArrayBuffer(0))).toBeNull();
  expect(specIn(fileOf(ascii("\x89PNG\r\n\x1a\n"), u32(13), ascii("IHDR")))).toBeNull();
  expect(specIn(gif("Created with GIMP"))).toBeNull();
  expect(specIn(mp4(""))).toBeNull();
});

test("a comment that is JSON of something else is no spec", () => {
  const others = [null, 5, [], { stops: "ab", frames: 2, seed: 0 }, { stops: ["a"], frames: 2, seed: 0 }, { stops: [1, 2], frames: 2, seed: 0 }];
  for (const other of [...others, { stops: ["a", "b"], frames: "2", seed: 0 }, { stops: ["a", "b"], frames: 2 }]) {
    expect(specIn(gif(JSON.stringify(other)))).toBeNull();
  }
});

test("a film can have pictures among its stops", () => {
  const picture = { picture: "5a".repeat(32), prompt: "", crop: { x: 0, y: 0, width: 9, height: 9 } };
  const stops = ["a", picture];
  expect(specIn(gif(JSON.stringify({ ...SPEC, stops })))).toMatchObject({ stops });
  const { crop: _crop, ...incomplete } = picture;
  expect(specIn(gif(JSON.stringify({ ...SPEC, stops: ["a", incomplete] })))).toBeNull();
});

test("a film of another kind of walk brings its picture or its clip", () => {
  const picture = { picture: "5a", crop: { x: 0, y: 0, width: 9, height: 9 } };
  for (const spec of [{ kind: "into", picture, width: 64, height: 64 }, { kind: "clip", clip: "5a", width: 64, height: 64 }]) {
    expect(specIn(gif(JSON.stringify(spec)))).toEqual(spec);
    expect(specIn(gif(JSON.stringify({ ...spec, picture: null, clip: null })))).toBeNull();
  }
});

test("a film of a release that had no spacings is of a uniform walk", () => {
  const { spacing, ...older } = SPEC;
  expect(specIn(gif(JSON.stringify(older)))).toEqual({ ...older, spacing: "uniform" });
  expect(spacing).not.toBe("uniform");
});
