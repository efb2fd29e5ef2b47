import { expect, test } from "vitest";
import { curlOf } from "./curl";

test("the command holds both prompts, quoted for a shell", () => {
  expect(curlOf("https://gallery.example", ["a red sun", "it's $HOME & `more`"])).toBe(
    "curl --fail --retry 999 -o walk.gif 'https://gallery.example/api/v1/walk?start=a+red+sun&end=it%27s+%24HOME+%26+%60more%60&wait=25'",
  );
});
