/** Which page a path leads to. Pure. */

import { KINDS, pathOf, type OtherKind } from "./kinds";

export type Page =
  | { name: "new" }
  | { name: "kind"; kind: OtherKind }
  | { name: "walk"; id: string }
  | { name: "gallery" }
  | { name: "about" }
  | { name: "data" }
  | { name: "not-found" };

const WALK = /^\/walks\/([0-9a-f]{32})$/;

export function pageOf(path: string): Page {
  const trimmed = path.length > 1 ? path.replace(/\/+$/, "") : path;
  const made = KINDS.find(({ kind }) => pathOf(kind) === (trimmed || "/"));
  if (made?.kind === "between") return { name: "new" };
  if (made) return { name: "kind", kind: made.kind };
  if (trimmed === "/gallery") return { name: "gallery" };
  if (trimmed === "/about") return { name: "about" };
  if (trimmed === "/data") return { name: "data" };
  const id = WALK.exec(trimmed)?.[1];
  return id ? { name: "walk", id } : { name: "not-found" };
}

/** The path of a walk's page; not that of the API's resource. */
export function walkPath(id: string): string {
  return `/walks/${id}`;
}

/** Whether the router handles a click on a link instead of the browser: a plain click that leads to a page of the gallery. */
export function isInternal(
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
