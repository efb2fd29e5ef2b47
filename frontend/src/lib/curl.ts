/** The call that a visitor can paste into a terminal. Pure. */

/** One GET that starts a walk, waits for it and saves the GIF. Quoted for a POSIX shell. */
export function curlOf(origin: string, [start, end]: readonly [string, string]): string {
  // URLSearchParams writes quotes and all else that a shell would read as %xx.
  const asked = new URLSearchParams({ start, end, wait: "25" }).toString();
  return `curl -o walk.gif '${origin}/api/v1/walk?${asked}'`;
}
