/** A file on its way to the server, with how far it is: `fetch` cannot tell that. */
import { text } from '../text';
import { address, HttpError } from './http';

/** How far a transfer is. */
export interface Progress {
  sent: number;
  total: number;
  /** Bytes a second over the last seconds; 0 while that is not known. */
  rate: number;
  /** Seconds that are left at this rate; none while that is not known. */
  left: number | null;
}

/** Works out rate and time left from amounts as they come; looks back a few seconds, so it neither jumps nor lags. */
export class Pace {
  #marks: { at: number; sent: number }[] = [];
  static readonly LOOK_BACK_MS = 4000;

  constructor(readonly total: number) {}

  at(sent: number, now: number): Progress {
    this.#marks.push({ at: now, sent });
    while (this.#marks.length > 2 && now - this.#marks[1]!.at >= Pace.LOOK_BACK_MS) this.#marks.shift();
    const first = this.#marks[0]!;
    const seconds = (now - first.at) / 1000;
    const rate = seconds >= 0.5 ? (sent - first.sent) / seconds : 0;
    return { sent, total: this.total, rate, left: rate > 0 ? (this.total - sent) / rate : null };
  }
}

/** Thrown when the person stopped it. */
export class Cancelled extends Error {}

/** Sends `file` as the body of a POST; `cancel` stops it, and `done` then fails with `Cancelled`. */
export function upload<T>(path: string, file: Blob, report: (progress: Progress) => void): { done: Promise<T>; cancel: () => void } {
  const request = new XMLHttpRequest();
  const pace = new Pace(file.size);
  const done = new Promise<T>((resolve, reject) => {
    request.upload.onprogress = (event) => report(pace.at(event.loaded, performance.now()));
    request.onabort = () => reject(new Cancelled());
    request.onerror = () => reject(new HttpError(text.net.unreachable, 0, 'unreachable', undefined, undefined));
    request.onload = () => {
      const content = request.response as { error?: { code?: string; message?: string } } | null;
      if (request.status >= 200 && request.status < 300) resolve(content as T);
      else reject(new HttpError(content?.error?.message ?? text.net.status(request.status), request.status, content?.error?.code ?? 'unknown', undefined, undefined));
    };
    request.open('POST', address(path));
    request.responseType = 'json';
    request.setRequestHeader('content-type', 'application/octet-stream');
    request.send(file);
  });
  return { done, cancel: () => request.abort() };
}
