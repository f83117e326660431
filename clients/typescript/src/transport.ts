import { NoAnswerError, type Sent } from "./errors.js";

export interface Retries {
  /** How often a request is sent at most. */
  attempts: number;
  /** For how long it is sent again and again, its answers and pauses included. */
  totalMs: number;
  /** The first pause, about. Each further one is twice as long, */
  pauseMs: number;
  /** but not longer than this, unless the service asks for more. */
  pauseMaxMs: number;
}

export interface Transport {
  token: (() => string | Promise<string>) | undefined;
  fetch: (url: string, init: RequestInit) => Promise<Response>;
  /** How long an attempt may take. */
  timeoutMs: number;
  retries: Retries;
}

/** Worth sending again. What else is below 500 stays as it is, and a 500 is a defect. */
const PASSING = [429, 502, 503, 504];
/** Responses that have no body, and must not be given one. */
const EMPTY = [204, 205, 304];

const KEY = "idempotency-key";
const CORRELATION_ID = "x-correlation-id";

const sentFor = new WeakMap<Response, Sent>();

/** What was sent for a response of this transport. */
export function sentWith(response: Response): Sent {
  return sentFor.get(response) ?? { idempotencyKey: undefined, correlationId: "" };
}

/**
 * Sends a request until there is an answer that stays, or it is not worth it any more. Repeating does no harm: a POST has a key, under which
 * it is done once, and all else leaves what it leaves however often it comes.
 */
export function transport(of: Transport): (request: Request) => Promise<Response> {
  return async (request) => {
    const headers = new Headers(request.headers);
    if (request.method === "POST" && !headers.has(KEY)) headers.set(KEY, uuid());
    if (!headers.has(CORRELATION_ID)) headers.set(CORRELATION_ID, uuid());
    const sent = { idempotencyKey: headers.get(KEY) ?? undefined, correlationId: headers.get(CORRELATION_ID) ?? "" };
    const body = ["GET", "HEAD"].includes(request.method) ? undefined : (await request.text()) || undefined;
    const end = performance.now() + of.retries.totalMs;
    let before: Response | undefined;

    for (let attempt = 1; ; attempt += 1) {
      const token = await of.token?.();
      if (token !== undefined) headers.set("authorization", `Bearer ${token}`);
      const { method, url, signal } = request;
      const timeoutMs = Math.min(of.timeoutMs, end - performance.now());
      let outcome: Outcome<Response> = await limited(signal, timeoutMs, async (signal) => {
        const init = { method, headers, signal, ...(body === undefined ? {} : { body }) };
        return await whole(await of.fetch(url, init));
      });

      // What the service has said before tells more than that there was no time to ask it again.
      if (before && "timedOut" in outcome && outcome.timedOut && timeoutMs < of.timeoutMs) outcome = { answer: before };
      const response = "answer" in outcome ? outcome.answer : undefined;
      if (response && !PASSING.includes(response.status)) {
        sentFor.set(response, sent);
        return response;
      }
      const pause = pauseAfter(attempt, of.retries, response && retryAfter(response));
      if (attempt >= of.retries.attempts || performance.now() + pause >= end) {
        if ("answer" in outcome) {
          sentFor.set(outcome.answer, sent);
          return outcome.answer;
        }
        throw new NoAnswerError(attempt, outcome.timedOut, sent.idempotencyKey, sent.correlationId, outcome.cause);
      }
      before = response;
      await sleep(pause, signal);
    }
  };
}

/** The seconds of `Retry-After`, which may also be a date. */
export function retryAfter(response: Response): number | undefined {
  const value = response.headers.get("retry-after")?.trim();
  if (!value) return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/** At least what the service asks for; longer each time, and by chance, so that not all who were refused come back together. */
function pauseAfter(attempt: number, { pauseMs, pauseMaxMs }: Retries, seconds = 0): number {
  const backoff = Math.min(pauseMaxMs, pauseMs * 2 ** (attempt - 1));
  return Math.max(seconds * 1000, backoff / 2) + (Math.random() * backoff) / 2;
}

/** A response whose body is here, so that one that stops halfway is no answer. */
async function whole(response: Response): Promise<Response> {
  const { status, statusText, headers } = response;
  const body = await response.text();
  return new Response(EMPTY.includes(status) ? null : body, { status, statusText, headers });
}

type Outcome<T> = { answer: T } | { timedOut: boolean; cause: unknown };

/** Does this for so long at most. When the caller has called it off, that is thrown. */
async function limited<T>(caller: AbortSignal, ms: number, work: (signal: AbortSignal) => Promise<T>): Promise<Outcome<T>> {
  const abort = new AbortController();
  const callOff = () => abort.abort(caller.reason);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    abort.abort();
  }, ms);
  caller.addEventListener("abort", callOff);
  try {
    caller.throwIfAborted();
    return { answer: await work(abort.signal) };
  } catch (cause) {
    caller.throwIfAborted();
    return { timedOut, cause };
  } finally {
    clearTimeout(timer);
    caller.removeEventListener("abort", callOff);
  }
}

async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  await limited(signal, ms, (ended) => new Promise<never>((_, reject) => ended.addEventListener("abort", () => reject(ended.reason))));
}

/** A random UUID. Node 18 has no `crypto` here, browsers no `randomUUID` on a page without TLS; it has to be unique, not secret. */
export function uuid(): string {
  const crypto = globalThis.crypto as Partial<Crypto> | undefined;
  if (crypto?.randomUUID) return crypto.randomUUID();
  const bytes = Array.from({ length: 16 }, () => Math.floor(Math.random() * 256));
  const hex = bytes.map((byte, at) => (at === 6 ? (byte & 15) | 64 : at === 8 ? (byte & 63) | 128 : byte).toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
