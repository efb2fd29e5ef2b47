/** The curl command that a visitor can paste into a terminal. Pure. */

/** One GET request that starts a walk, waits for it and saves the GIF. Quoted for a POSIX shell. */
export function curlOf(origin: string, [start, end]: readonly [string, string]): string {
  // URLSearchParams percent-encodes quotes and everything else that a shell would interpret.
  const query = new URLSearchParams({ start, end, wait: "25" }).toString();
  return `curl -o walk.gif '${origin}/api/v1/walk?${query}'`;
}
