/** Which page an address means. Pure. */

export type Page =
  | { name: "new" }
  | { name: "walk"; id: string }
  | { name: "gallery" }
  | { name: "about" }
  | { name: "missing" };

const WALK = /^\/walks\/([0-9a-f]{32})$/;

export function pageOf(path: string): Page {
  const plain = path.length > 1 ? path.replace(/\/+$/, "") : path;
  if (plain === "" || plain === "/") return { name: "new" };
  if (plain === "/gallery") return { name: "gallery" };
  if (plain === "/about") return { name: "about" };
  const id = WALK.exec(plain)?.[1];
  return id ? { name: "walk", id } : { name: "missing" };
}

/** The address of a walk's page; not that of the api's resource. */
export function walkPath(id: string): string {
  return `/walks/${id}`;
}

/** Whether a click on a link is ours to follow, rather than the browser's: a plain click on a page of ours. */
export function isOurs(
  click: Pick<MouseEvent, "button" | "metaKey" | "ctrlKey" | "shiftKey" | "altKey" | "defaultPrevented">,
  link: Pick<HTMLAnchorElement, "href" | "target"> & { hasAttribute(name: string): boolean },
  origin: string,
): boolean {
  if (click.defaultPrevented || click.button !== 0) return false;
  if (click.metaKey || click.ctrlKey || click.shiftKey || click.altKey) return false;
  if ((link.target && link.target !== "_self") || link.hasAttribute("download")) return false;
  const url = new URL(link.href);
  return url.origin === origin && !url.pathname.startsWith("/api/") && !url.hash;
}
