import type * as schema from "./schema.js";

type Schemas = schema.components["schemas"];
type Problem = schema.Problem;

/** Each problem of the contract, with the members that it has of its own. */
type KnownProblem = { [Name in keyof Schemas]: Name extends `${infer Word}Problem` ? (Word extends "" ? never : Schemas[Name]) : never }[keyof Schemas];

const URN = "urn:order-service:problem:";

/** What a problem is known by: `out-of-stock`, `rate-limited`, ... More may be added. */
export type ProblemWord = KnownProblem["type"] extends `${typeof URN}${infer Word}` ? Word : never;

/** The problem of this word. */
export type ProblemOf<Word extends ProblemWord> = Extract<KnownProblem, { type: `${typeof URN}${Word}` }>;

/** What was sent, for whoever asks what became of it. */
export interface Sent {
  /** Of a command: who sends the same again sends it under this key. */
  readonly idempotencyKey: string | undefined;
  readonly correlationId: string;
}

/** The service has refused, or failed. */
export class ProblemError extends Error {
  override readonly name = "ProblemError";
  readonly type: string;
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  /** What is wrong with each field: by JSON Pointer for the body, by `?name` for the query. */
  readonly errors: ReadonlyMap<string, readonly string[]>;
  /** What to name when asking about the request. */
  readonly correlationId: string;
  readonly idempotencyKey: string | undefined;
  /** In how many seconds the same request is worth sending again. */
  readonly retryAfter: number | undefined;

  constructor(
    /** The answer's body, with the members that a problem has of its own. */
    readonly problem: Problem & { readonly [member: string]: unknown },
    sent: Sent,
    retryAfter?: number,
  ) {
    const errors = fieldErrors(problem["errors"]);
    const fields = [...errors].map(([pointer, details]) => `; ${pointer || "the whole"} ${details.join(", ")}`);
    super(`${problem.status} ${problem.title}${problem.detail && `: ${problem.detail}`}${fields.join("")}`);
    ({ type: this.type, status: this.status, title: this.title, detail: this.detail } = problem);
    this.errors = errors;
    this.correlationId = problem.correlation_id;
    this.idempotencyKey = sent.idempotencyKey;
    this.retryAfter = retryAfter;
  }

  /** Whether it is this problem, whose own members `problem` then has. */
  is<Word extends ProblemWord>(word: Word): this is ProblemError & { readonly problem: ProblemOf<Word> } {
    return this.type === URN + word;
  }
}

/** There was no answer, after all tries. A command may have been done: the same again under its key finds out. */
export class NoAnswerError extends Error {
  override readonly name = "NoAnswerError";

  constructor(
    readonly attempts: number,
    /** The last attempt took too long; otherwise the service could not be reached. */
    readonly timedOut: boolean,
    readonly idempotencyKey: string | undefined,
    readonly correlationId: string,
    cause: unknown,
  ) {
    super(`${timedOut ? "no answer in time" : "the service cannot be reached"}, after ${attempts} attempts`, { cause });
  }
}

function fieldErrors(errors: unknown): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { pointer, detail } of Array.isArray(errors) ? (errors as schema.FieldError[]) : []) {
    found.set(pointer, [...(found.get(pointer) ?? []), detail]);
  }
  return found;
}

/** What a body says that is not as expected: a problem of the service, API Gateway's message, or what something between them says. */
export function problemOf(response: Response, body: unknown, sent: Sent, retryAfter?: number): ProblemError {
  const said: Record<string, unknown> = typeof body === "object" && body !== null ? { ...body } : {};
  const text = (member: string) => (typeof said[member] === "string" ? said[member] : undefined);
  const problem = {
    ...said,
    type: text("type") ?? "about:blank",
    title: text("title") ?? text("message") ?? `HTTP ${response.status}`,
    status: response.status,
    detail: text("detail") ?? "",
    instance: text("instance") ?? "",
    correlation_id: text("correlation_id") ?? response.headers.get("x-correlation-id") ?? sent.correlationId,
  };
  return new ProblemError(problem, sent, retryAfter);
}
