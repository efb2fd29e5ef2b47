import { expect, test } from "vitest";
import type { Me } from "../api/client";
import { hasBelongings, signInUrl } from "./signIn";

const me: Me = { kind: "cookie", name: null, email: null, walks: 0, pictures: 0, clips: 0, sign_in: "optional", mail: false };

test("the page to return to is one parameter, whatever its own query", () => {
  expect(signInUrl("/?stop=a&stop=b")).toBe("/api/v1/sign-in?next=%2F%3Fstop%3Da%26stop%3Db");
  expect(signInUrl("/", true)).toBe("/api/v1/sign-in?next=%2F&claim=true");
});

test("only a browser with walks or pictures of its own has something to take along", () => {
  expect(hasBelongings(me)).toBe(false);
  expect(hasBelongings({ ...me, pictures: 1 })).toBe(true);
  expect(hasBelongings({ ...me, clips: 1 })).toBe(true);
  expect(hasBelongings({ ...me, kind: "user", walks: 4 })).toBe(false);
});
