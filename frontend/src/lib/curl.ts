/** The curl command that a visitor can paste into a terminal. Pure. */

/** GET requests that start a walk, wait for it however long it takes, and save the GIF. Quoted for a POSIX shell. */
export function curlOf(origin: string, [start, end]: readonly [string, string]): string {
  // URLSearchParams percent-encodes quotes and everything else that a shell would interpret.
  const query = new URLSearchParams({ start, end, wait: "25" }).toString();
  return `curl --fail --retry 999 -o walk.gif '${origin}/api/v1/walk?${query}'`;
}
