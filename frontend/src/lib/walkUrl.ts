/** URLs of what belongs to a walk. Those of a private walk may have a link's token as their query. Pure. */

/** The URL of a part of a walk, such as "frames.zip". url: that of the walk. */
export function partOf(url: string, part: string): string {
  const [path = "", query] = url.split("?");
  return `${path}/${part}${query ? `?${query}` : ""}`;
}

/** The token of a link in the query of a page's URL; undefined if there is none. */
export function linkIn(query: string): string | undefined {
  return new URLSearchParams(query).get("link") ?? undefined;
}
