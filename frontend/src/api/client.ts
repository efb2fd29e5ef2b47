/** Calls to the API, typed by its OpenAPI document. Each throws a Problem, or a TypeError if no response arrived. */

import createClient from "openapi-fetch";
import { COOKIE_NEEDED, problemOf, typeOf } from "./problem";
import type { components, paths } from "./schema";

export type WalkSpec = components["schemas"]["BetweenSpec"];
export type Walk = Omit<components["schemas"]["WalkResource"], "spec"> & { spec: WalkSpec };
export type GalleryPage = components["schemas"]["GalleryPage"];
export type WalkRequest = Partial<components["schemas"]["WalkRequest"]>;
/** A part of a picture, in its pixels. */
export type Crop = components["schemas"]["Crop"];
export type Picture = components["schemas"]["PictureResource"];
export type Models = components["schemas"]["ModelsResource"];
export type Model = components["schemas"]["OfferedModel"];
export type ModelCard = components["schemas"]["ModelCard"];

export type Me = components["schemas"]["MeResource"];
/** A link to a private walk. */
export type Link = components["schemas"]["LinkResource"];
const LINK_HOURS = 7 * 24;

/** The visitor's own request for a walk: whether there is one, and whether it lists the walk in the gallery. */
export type OwnRequest = components["schemas"]["RequestResource"];

// fetch is looked up at each call, so that tests can replace it.
const api = createClient<paths>({ baseUrl: location.origin, fetch: (request) => fetch(request) });

interface Result<T> {
  data?: T | undefined;
  error?: unknown;
  response: Response;
}

function dataOf<T>({ data, error, response }: Result<T>): T {
  if (!response.ok || data === undefined) throw problemOf(response.status, error);
  return data;
}

/** Check an answer that has no content. */
function ended({ error, response }: Result<unknown>): void {
  if (!response.ok) throw problemOf(response.status, error);
}

/** The parameters of a walk. link: the token of a link that opens a private one. */
function of(id: string, link?: string) {
  return { path: { walk_id: id }, query: link ? { link } : {} };
}

export async function requestWalk(request: WalkRequest): Promise<Walk> {
  const post = () => api.POST("/api/v1/walks", { body: request as components["schemas"]["WalkRequest"] });
  const answer = await post();
  // The refusal has set the cookie that it asks for.
  return dataOf(typeOf(answer.error) === COOKIE_NEEDED ? await post() : answer);
}

/** A walk. link: the token of a link that opens a private one. */
export async function getWalk(id: string, link?: string): Promise<Walk> {
  return dataOf(await api.GET("/api/v1/walks/{walk_id}", { params: of(id, link) }));
}

/** Withdraw the visitor's own request for a walk. */
export async function cancelRequest(id: string): Promise<Walk> {
  return dataOf(await api.DELETE("/api/v1/walks/{walk_id}", { params: { path: { walk_id: id } } }));
}

/** Withdraw the visitor's own request, and delete the walk unless others requested it, too. */
export async function eraseWalk(id: string): Promise<void> {
  ended(await api.DELETE("/api/v1/walks/{walk_id}", { params: { ...of(id), query: { erase: true } } }));
}

/** A link that lets others open a private walk for a week. */
export async function createLink(id: string): Promise<Link> {
  return dataOf(await api.POST("/api/v1/walks/{walk_id}/links", { params: of(id), body: { hours: LINK_HOURS } }));
}

/** Have a mail sent when a walk ends. address: of a visitor who is not signed in. Returns whether it must be confirmed. */
export async function requestMail(id: string, address?: string): Promise<boolean> {
  const body = address ? { address } : {};
  return dataOf(await api.POST("/api/v1/walks/{walk_id}/mail", { params: of(id), body })).confirm;
}

export async function withdrawMail(id: string): Promise<void> {
  ended(await api.DELETE("/api/v1/walks/{walk_id}/mail", { params: of(id) }));
}

/** What the server knows of the visitor. */
export async function getMe(): Promise<Me> {
  return dataOf(await api.GET("/api/v1/me", {}));
}

/** Delete all walks and pictures of the visitor. */
export async function eraseMe(): Promise<void> {
  ended(await api.DELETE("/api/v1/me", {}));
}

export async function signOut(): Promise<void> {
  ended(await api.POST("/api/v1/sign-out", {}));
}

interface GalleryQuery {
  q?: string;
  /** The cursor of the next page; see `cursorOf`. */
  before?: number;
  owner?: "me";
  model?: string;
  limit?: number;
}

/** Walks, newest first. */
export async function getGallery(query: GalleryQuery): Promise<GalleryPage> {
  return dataOf(await api.GET("/api/v1/walks", { params: { query } }));
}

/** The cursor in the URL of the next page. */
export function cursorOf(next: string | null): number | undefined {
  const before = next && new URL(next, location.origin).searchParams.get("before");
  return before ? Number(before) : undefined;
}

/** The models that new walks can use, the default first. */
export async function getModels(): Promise<Models> {
  // openapi-fetch loses the information that an example is a pair.
  return dataOf(await api.GET("/api/v1/models", {})) as Models;
}

/** One of the visitor's own pictures. */
export async function getPicture(id: string): Promise<Picture> {
  return dataOf(await api.GET("/api/v1/pictures/{picture_id}", { params: { path: { picture_id: id } } }));
}

export async function getOwnRequest(id: string, link?: string): Promise<OwnRequest> {
  return dataOf(await api.GET("/api/v1/walks/{walk_id}/request", { params: of(id, link) }));
}

export async function setListed(id: string, listed: boolean): Promise<OwnRequest> {
  const params = { path: { walk_id: id } };
  return dataOf(await api.PUT("/api/v1/walks/{walk_id}/request", { params, body: { listed } }));
}
