export * from "./client.js";
export { NoAnswerError, ProblemError, type ProblemOf, type ProblemWord } from "./errors.js";
export type { Retries } from "./transport.js";
export type * from "./schema.js";
