import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { COOKIE_NEEDED } from "../api/problem";
import { isWorthRetrying, uploadPicture } from "./upload";

/** The requests that were sent, as the server would see them. */
let sent: FakeRequest[];

class FakeRequest {
  upload: { onprogress?: (event: { loaded: number; total: number }) => void } = {};
  onload?: () => void;
  onerror?: () => void;
  status = 0;
  responseText = "";
  aborted = false;
  open(): void {
    sent.push(this);
  }
  send(): void {
    // Nothing is sent.
  }
  abort(): void {
    this.aborted = true;
  }
  answer(status: number, body: unknown): void {
    Object.assign(this, { status, responseText: typeof body === "string" ? body : JSON.stringify(body) });
    this.onload?.();
  }
}

beforeEach(() => {
  sent = [];
  vi.stubGlobal("XMLHttpRequest", FakeRequest);
});
afterEach(() => {
  vi.unstubAllGlobals();
});

/** The request with this number, once it was sent. */
async function request(number: number): Promise<FakeRequest> {
  return vi.waitFor(() => {
    const found = sent[number];
    if (!found) throw new Error("not sent");
    return found;
  });
}

function upload(onprogress: (share: number) => void = () => undefined, signal = new AbortController().signal) {
  return uploadPicture(new Blob(["x"]), { onprogress, signal });
}

test("pictures are sent one after another, so that the cookie of the first is there for the others", async () => {
  const [one, other] = [upload(), upload()];
  const first = await request(0);
  expect(sent).toHaveLength(1);
  first.answer(201, { id: "a" });
  expect(await one).toEqual({ id: "a" });
  (await request(1)).answer(201, { id: "b" });
  expect(await other).toEqual({ id: "b" });
});

test("a refusal that asks for a cookie is followed by one more try", async () => {
  const uploaded = upload();
  (await request(0)).answer(503, { type: COOKIE_NEEDED, detail: "Repeat it." });
  (await request(1)).answer(201, { id: "a" });
  expect(await uploaded).toEqual({ id: "a" });
});

test("a failed upload tells why, and does not hold up the next one", async () => {
  const [refused, interrupted, unreadable] = [upload(), upload(), upload()];
  (await request(0)).answer(413, { detail: "A picture can have at most 20 MB." });
  await expect(refused).rejects.toThrow("A picture can have at most 20 MB.");
  (await request(1)).onerror?.();
  await expect(interrupted).rejects.toSatisfy(isWorthRetrying);
  (await request(2)).answer(502, "<html>");
  await expect(unreadable).rejects.toThrow("error 502");
  await expect(refused).rejects.not.toSatisfy(isWorthRetrying);
});

test("progress is a share, and a cancelled upload is aborted", async () => {
  const shares: number[] = [];
  const cancel = new AbortController();
  const uploaded = upload((share) => shares.push(share), cancel.signal);
  const running = await request(0);
  running.upload.onprogress?.({ loaded: 3, total: 4 });
  cancel.abort();
  await expect(uploaded).rejects.toThrow();
  expect(shares).toEqual([0.75]);
  expect(running.aborted).toBe(true);
});
