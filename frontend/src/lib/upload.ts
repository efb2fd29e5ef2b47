/** Uploads pictures and clips. fetch cannot tell how much of a body has been sent, so this uses XMLHttpRequest. */

import type { Clip, Picture } from "../api/client";
import { COOKIE_NEEDED, Problem, problemOf, typeOf } from "../api/problem";

const INTERRUPTED = "The upload was interrupted. Check your connection, then try again.";

export interface UploadOptions {
  /** Called with the share that has been sent, from 0 to 1. */
  onprogress: (share: number) => void;
  /** Cancels the upload; its promise is then rejected with the signal's reason. */
  signal: AbortSignal;
}

let previous: Promise<unknown> = Promise.resolve();

/** Upload a picture. Throws a Problem. */
export async function uploadPicture(content: Blob, options: UploadOptions): Promise<Picture> {
  return (await inTurn("/api/v1/pictures", content, options)) as Picture;
}

/** Upload a clip. Throws a Problem. */
export async function uploadClip(content: Blob, options: UploadOptions): Promise<Clip> {
  return (await inTurn("/api/v1/clips", content, options)) as Clip;
}

/** After the uploads before: the first response sets the cookie by which all of them have the same owner. */
async function inTurn(path: string, content: Blob, options: UploadOptions): Promise<unknown> {
  const upload = previous.then(() => send(path, content, options, true));
  previous = upload.catch(() => undefined);
  return upload;
}

/** Whether the same upload can succeed when it is tried again. */
export function isWorthRetrying(thrown: unknown): boolean {
  return thrown instanceof Problem && (thrown.status === 0 || thrown.status === 408 || thrown.status >= 500);
}

function send(path: string, content: Blob, options: UploadOptions, mayRepeat: boolean): Promise<unknown> {
  return new Promise<unknown>((resolve, reject) => {
    const { signal } = options;
    const request = new XMLHttpRequest();
    const abort = (): void => {
      request.abort();
      reject(signal.reason as Error);
    };
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener("abort", abort, { once: true });
    request.open("POST", path);
    request.upload.onprogress = ({ loaded, total }) => {
      if (total) options.onprogress(loaded / total);
    };
    request.onerror = () => {
      reject(new Problem(INTERRUPTED, 0));
    };
    request.onload = () => {
      const body = parsed(request.responseText);
      if (request.status === 201) resolve(body);
      // The refusal has set the cookie that it asks for.
      else if (mayRepeat && typeOf(body) === COOKIE_NEEDED) resolve(send(path, content, options, false));
      else reject(problemOf(request.status, body));
    };
    request.send(content);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
