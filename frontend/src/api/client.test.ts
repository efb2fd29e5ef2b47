import { afterEach, expect, test, vi } from "vitest";
import { requestWalk } from "./client";
import { COOKIE_NEEDED } from "./problem";

afterEach(() => {
  vi.unstubAllGlobals();
});

/** Answer each request with the next of these. Returns the bodies that were sent. */
function answering(...answers: [number, unknown][]): string[] {
  const sent: string[] = [];
  vi.stubGlobal("fetch", async (request: Request) => {
    sent.push(await request.text());
    const [status, body] = answers[sent.length - 1] ?? [500, {}];
    return Response.json(body, { status });
  });
  return sent;
}

test("a request is repeated with the cookie that its refusal has set", async () => {
  const sent = answering([429, { type: COOKIE_NEEDED, detail: "…" }], [201, { id: "1" }]);
  expect((await requestWalk({ start: "a", end: "b" })).id).toBe("1");
  expect(sent).toEqual(Array(2).fill('{"start":"a","end":"b"}'));
});

test("any other refusal is not repeated", async () => {
  const sent = answering([429, { type: "urn:momalisa:problem:quota-exceeded", detail: "Wait." }]);
  await expect(requestWalk({ start: "a", end: "b" })).rejects.toThrow("Wait.");
  expect(sent.length).toBe(1);
});
