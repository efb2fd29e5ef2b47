/** Why a call to the API failed, as a message for the visitor. The API writes most of the messages (RFC 9457). */

export interface FieldError {
  field: string;
  detail: string;
}

/** Messages for the fields of a form, by the API's names of the fields. */
export type FieldMessages = ReadonlyMap<string, string>;
export const NO_MESSAGES: FieldMessages = new Map();

export class Problem extends Error {
  constructor(
    detail: string,
    readonly status: number,
    readonly fields: readonly FieldError[] = [],
  ) {
    super(detail);
  }
}

export const UNREACHABLE = "The server cannot be reached. Check your connection, then try again.";

/** The type of the problem that asks for the cookie which its response sets. */
export const COOKIE_NEEDED = "urn:momalisa:problem:cookie-needed";

/** Messages of the page for problems that the API explains to programs, by their types. */
const FOR_VISITORS: Readonly<Record<string, string>> = {
  "urn:momalisa:problem:walk-not-found": "This walk has been deleted, or is private. Reload the page.",
};

/** The type of the problem in the body of an error response, if it has one. */
export function typeOf(body: unknown): unknown {
  return typeof body === "object" && body && "type" in body ? body.type : undefined;
}

/** The problem in an error response. body: as the API or a proxy before it wrote it. */
export function problemOf(status: number, body: unknown): Problem {
  const { detail, errors } = (typeof body === "object" && body ? body : {}) as Record<string, unknown>;
  const message =
    FOR_VISITORS[String(typeOf(body))] ??
    (typeof detail === "string" && detail ? detail : `The server returned error ${String(status)}. Try again.`);
  return new Problem(message, status, Array.isArray(errors) ? errors.filter(isFieldError) : []);
}

/** The message for anything that was thrown. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof Problem) return thrown.message;
  // fetch throws a TypeError if no response arrived.
  if (thrown instanceof TypeError) return UNREACHABLE;
  return "Something went wrong. Reload the page.";
}

/** The names of fields as the form shows them, where they are not those of the API. */
const LABELS: Readonly<Record<string, string>> = {
  guidance_scale: "Guidance",
  frame_ms: "Frame time",
  most: "Objects",
  gif_there_and_back: "GIF there and back",
  mp4_there_and_back: "MP4 there and back",
};

/** "stops.0 must have …" with the name of the field as it appears in the form. */
export function fieldMessage({ field, detail }: FieldError, stops: number): string {
  if (/^(style_)?picture\.picture$/.test(field)) return "This picture is no longer available to you. Choose another one.";
  const pictured = /^stops\.(\d+)\.picture$/.exec(field)?.[1];
  if (pictured) return `The picture of stop ${String(Number(pictured) + 1)} is no longer available to you. Choose another one.`;
  const stop = /^stops\.(\d+)$/.exec(field)?.[1];
  if (stop === undefined) return `${labelOf(field)} ${detail}.`;
  const index = Number(stop);
  const name = index === 0 ? "The first prompt" : index === stops - 1 ? "The last prompt" : `Stop ${String(index + 1)}`;
  return `${name} ${detail}.`;
}

/** The messages for the fields that a form has, by the API's names of the fields, and one for everything else. */
export function formMessages(thrown: unknown, stops: number, isField = (_: string) => false): { fields: FieldMessages; other: string } {
  const errors = thrown instanceof Problem ? thrown.fields : [];
  const shown = errors.filter(({ field }) => isField(placeOf(field)));
  const others = errors.filter(({ field }) => !isField(placeOf(field))).map((error) => fieldMessage(error, stops));
  return {
    fields: new Map(shown.map((error) => [placeOf(error.field), fieldMessage(error, stops)])),
    other: errors.length ? others.join(" ") : messageOf(thrown),
  };
}

/** The field of a form that has a message's field: "picture" for "picture.crop". */
function placeOf(field: string): string {
  return field.replace(/^((style_)?picture)\..*/, "$1");
}

function labelOf(field: string): string {
  return LABELS[field] ?? field.charAt(0).toUpperCase() + field.slice(1).replaceAll("_", " ");
}

function isFieldError(value: unknown): value is FieldError {
  const { field, detail } = (value ?? {}) as Record<string, unknown>;
  return typeof field === "string" && typeof detail === "string";
}
