/** The api's calls, typed by its own OpenAPI document. Each throws a Problem, or a TypeError where no answer came. */

import createClient from "openapi-fetch";
import { problemOf } from "./problem";
import type { components, paths } from "./schema";

export type Walk = components["schemas"]["WalkResource"];
export type WalkSpec = components["schemas"]["WalkSpec"];
export type Model = components["schemas"]["ModelResource"];
export type GalleryPage = components["schemas"]["GalleryPage"];
export type Wish = Partial<components["schemas"]["WalkRequest"]>;

/** What one owner wants of a walk. */
export type Ask = components["schemas"]["AskResource"];

// fetch is looked up at each call, so that whoever replaces it is heard.
const api = createClient<paths>({ baseUrl: location.origin, fetch: (request) => fetch(request) });

interface Answer<T> {
  data?: T | undefined;
  error?: unknown;
  response: Response;
}

function taken<T>({ data, error, response }: Answer<T>): T {
  if (!response.ok || data === undefined) throw problemOf(response.status, error);
  return data;
}

export async function askFor(wish: Wish): Promise<Walk> {
  return taken(await api.POST("/api/v1/walks", { body: wish as components["schemas"]["WalkRequest"] }));
}

export async function getWalk(id: string): Promise<Walk> {
  return taken(await api.GET("/api/v1/walks/{walk_id}", { params: { path: { walk_id: id } } }));
}

export async function withdraw(id: string): Promise<Walk> {
  return taken(await api.DELETE("/api/v1/walks/{walk_id}", { params: { path: { walk_id: id } } }));
}

/** Walks, newest first. before: the cursor of the page before; see `cursorOf`. */
export async function getGallery(query: { q?: string; before?: number; owner?: "me"; limit?: number }): Promise<GalleryPage> {
  return taken(await api.GET("/api/v1/walks", { params: { query } }));
}

/** The cursor in the url of a next page. */
export function cursorOf(next: string | null): number | undefined {
  const before = next && new URL(next, location.origin).searchParams.get("before");
  return before ? Number(before) : undefined;
}

export async function getModel(): Promise<Model> {
  // openapi-fetch forgets that an example is a pair.
  return taken(await api.GET("/api/v1/model", {})) as Model;
}

/** Whether the caller asks for a walk, and wants it listed. */
export async function getAsk(id: string): Promise<Ask> {
  return taken(await api.GET("/api/v1/walks/{walk_id}/ask", { params: { path: { walk_id: id } } }));
}

export async function putAsk(id: string, listed: boolean): Promise<Ask> {
  const params = { path: { walk_id: id } };
  return taken(await api.PUT("/api/v1/walks/{walk_id}/ask", { params, body: { listed } }));
}
