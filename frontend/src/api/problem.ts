/** What went wrong with a call, as a sentence for the visitor. The api writes the sentences (RFC 9457). */

export interface FieldError {
  field: string;
  detail: string;
}

export class Problem extends Error {
  constructor(
    detail: string,
    readonly status: number,
    readonly fields: readonly FieldError[] = [],
  ) {
    super(detail);
  }
}

export const UNREACHABLE = "The server cannot be reached. Look at your connection, then try again.";

/** A problem of an answer that is no success: its body as the api or something before it wrote it. */
export function problemOf(status: number, body: unknown): Problem {
  const { detail, errors } = (typeof body === "object" && body ? body : {}) as Record<string, unknown>;
  const said = typeof detail === "string" && detail ? detail : `The server answered ${String(status)}. Try again.`;
  return new Problem(said, status, Array.isArray(errors) ? errors.filter(isFieldError) : []);
}

/** The sentence for anything that was thrown. */
export function sentenceOf(thrown: unknown): string {
  if (thrown instanceof Problem) return thrown.message;
  // What fetch throws where no answer came.
  if (thrown instanceof TypeError) return UNREACHABLE;
  return "Something broke here. Reload the page.";
}

/** "stops.0 must have …" as said to somebody who sees two fields and no names of them. */
export function fieldSentence({ field, detail }: FieldError, stops: number): string {
  const stop = /^stops\.(\d+)$/.exec(field)?.[1];
  if (stop === undefined) return `${field.charAt(0).toUpperCase()}${field.slice(1).replaceAll("_", " ")} ${detail}.`;
  const index = Number(stop);
  const name = index === 0 ? "The first prompt" : index === stops - 1 ? "The last prompt" : `Stop ${String(index + 1)}`;
  return `${name} ${detail}.`;
}

function isFieldError(value: unknown): value is FieldError {
  const { field, detail } = (value ?? {}) as Record<string, unknown>;
  return typeof field === "string" && typeof detail === "string";
}
