/** Calls to the API, typed by its OpenAPI document. Each throws a Problem, or a TypeError if no response arrived. */

import createClient from "openapi-fetch";
import { COOKIE_NEEDED, problemOf, typeOf } from "./problem";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];
export type Kind = Schemas["WalkResource"]["kind"];
export type BetweenSpec = Schemas["BetweenSpec"];
export type WalkSpec = Schemas["WalkResource"]["spec"];
/** The spec of a walk of a picture or a clip. */
export type OtherSpec = Exclude<WalkSpec, BetweenSpec>;
export type RestyleSpec = Schemas["RestyleSpec"];
export type ClipSpec = Schemas["ClipSpec"];
export type Motion = Schemas["IntoSpec"]["motion"];
export type CroppedPicture = Schemas["CroppedPicture"];
/** A file that belongs to a walk beside its frames. */
export type Extra = Schemas["ExtraResource"];
export type Walk = Schemas["WalkResource"];
export type GalleryPage = Schemas["GalleryPage"];
export type Clip = Schemas["ClipResource"];
export type WalkRequest = Partial<Schemas["WalkRequest"]>;
/** A request for a walk of a picture or a clip. */
export type KindRequest =
  | Asked<Schemas["IntoRequest"]>
  | Asked<Schemas["RestyleRequest"]>
  | Asked<Schemas["ClipRequest"]>
  | Asked<Schemas["ApartRequest"]>;
type Asked<T extends { kind: Kind }> = Partial<T> & Pick<T, "kind">;
/** A part of a picture, in its pixels. */
export type Crop = Schemas["Crop"];
export type Picture = Schemas["PictureResource"];
export type Models = Schemas["ModelsResource"];
export type Model = Schemas["OfferedModel"];
export type Style = Model["styles"][number];
export type ModelCard = Schemas["ModelCard"];

export type Me = Schemas["MeResource"];
/** A link to a private walk. */
export type Link = Schemas["LinkResource"];
const LINK_HOURS = 7 * 24;

/** The visitor's own request for a walk: whether there is one, and whether it lists the walk in the gallery. */
export type OwnRequest = Schemas["RequestResource"];

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

/** The answer of a call, made again if it was refused for want of the cookie which the refusal has set. */
async function repeated<T>(call: () => Promise<Result<T>>): Promise<Result<T>> {
  const answer = await call();
  return typeOf(answer.error) === COOKIE_NEEDED ? call() : answer;
}

export async function requestWalk(request: WalkRequest | KindRequest): Promise<Walk> {
  const post = () => api.POST("/api/v1/walks", { body: request as unknown as Schemas["WalkRequest"] });
  return dataOf(await repeated(post));
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

/** Have a picture fetched from an address. */
export async function fetchPicture(url: string): Promise<Picture> {
  return dataOf(await repeated(() => api.POST("/api/v1/pictures", { body: { url } })));
}

/** Have a clip fetched from an address. */
export async function fetchClip(url: string): Promise<Clip> {
  return dataOf(await repeated(() => api.POST("/api/v1/clips", { body: { url } })));
}

/** Make a finished frame of a walk a picture of the visitor. link: the token of a link that opens a private walk. */
export async function pictureOfFrame(walk: string, frame: number, link?: string): Promise<Picture> {
  const params = { query: link ? { link } : {} };
  return dataOf(await repeated(() => api.POST("/api/v1/pictures", { params, body: { walk, frame } })));
}

/** One of the visitor's own clips. */
export async function getClip(id: string): Promise<Clip> {
  return dataOf(await api.GET("/api/v1/clips/{clip_id}", { params: { path: { clip_id: id } } }));
}
