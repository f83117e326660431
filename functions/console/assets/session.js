// Who is signed in, and every request. Tokens are in memory only: a reload forgets them, and the issuer's own session gives new ones.
import { signal, computed } from "@preact/signals";

const PATIENCE = 25_000; // milliseconds; API Gateway gives up after 30 seconds
const BEFORE_SIGN_IN = "console.sign-in"; // what is kept while the issuer's page is open: no token, and nothing that gives one by itself
const HOME = "/console";

export const config = signal(null);
export const failure = signal(null); // why nobody is signed in, if somebody should be
const tokens = signal(null);

export const claims = computed(() => tokens.value && payload(tokens.value.access_token));
const groups = computed(() => [claims.value?.["cognito:groups"], claims.value?.groups].flat().filter(Boolean));
/** Only what is offered goes by this: the API decides. */
export const isSupervisor = computed(() => groups.value.includes("supervisor"));
export const isStaff = computed(() => isSupervisor.value || groups.value.includes("staff"));

export class Problem extends Error {
  constructor(status, body = {}, retryAfter) {
    super(body.detail ?? body.message ?? body.title ?? "");
    Object.assign(this, { status, title: body.title, type: body.type?.split(":").at(-1), errors: body.errors ?? [], body, retryAfter });
  }
}

function payload(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));
  } catch {
    return {}; // another issuer's token may be no JWT, and the API decides all the same
  }
}

// ---------------------------------------------------------------- sign-in: code and PKCE (RFC 7636)

const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
const randomText = () => base64url(crypto.getRandomValues(new Uint8Array(32)));
const redirect = () => location.origin + HOME;

export async function signIn() {
  const { client_id, authorize_url, scope } = config.value.sign_in;
  const [state, verifier] = [randomText(), randomText()];
  const challenge = base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
  sessionStorage.setItem(BEFORE_SIGN_IN, JSON.stringify({ state, verifier, path: location.pathname + location.search }));
  const url = new URL(authorize_url);
  const asked = { response_type: "code", client_id, redirect_uri: redirect(), scope, state, code_challenge: challenge, code_challenge_method: "S256" };
  for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
  location.assign(url);
}

/** Asks where to sign in, and takes the code that the issuer's page may have sent back. */
export async function begin() {
  config.value = await (await fetch(`${HOME}/config.json`, { signal: AbortSignal.timeout(PATIENCE) })).json();
  const query = new URLSearchParams(location.search);
  if (!query.has("state") || !(query.has("code") || query.has("error"))) return;
  const kept = JSON.parse(sessionStorage.getItem(BEFORE_SIGN_IN) ?? "{}");
  sessionStorage.removeItem(BEFORE_SIGN_IN);
  history.replaceState(null, "", kept.path ?? HOME);
  if (query.get("state") !== kept.state) {
    failure.value = "sign-in.stranger"; // somebody else has begun this sign-in
  } else if (query.has("error")) {
    failure.value = "sign-in.refused";
  } else {
    await askForTokens({ grant_type: "authorization_code", code: query.get("code"), redirect_uri: redirect(), code_verifier: kept.verifier });
    if (!tokens.value) failure.value = "sign-in.refused";
  }
}

async function askForTokens(grant) {
  const { client_id, token_url } = config.value.sign_in;
  const answer = await fetch(token_url, {
    method: "POST",
    body: new URLSearchParams({ client_id, ...grant }),
    credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE),
  });
  const given = answer.ok ? await answer.json() : null; // who cannot be reached refuses nothing, and is thrown
  tokens.value = given && { ...tokens.value, ...given };
  return tokens.value;
}

let refreshing = null;

/** One question for all requests that have found the token too old. */
function refresh() {
  const { refresh_token } = tokens.value ?? {};
  if (!refresh_token) return Promise.resolve((tokens.value = null));
  refreshing ??= askForTokens({ grant_type: "refresh_token", refresh_token }).finally(() => (refreshing = null));
  return refreshing;
}

export function signOut() {
  const { client_id, logout_url } = config.value.sign_in;
  tokens.value = null;
  history.replaceState(null, "", HOME);
  if (!logout_url) return;
  const url = new URL(logout_url);
  url.searchParams.set("client_id", client_id);
  url.searchParams.set("logout_uri", redirect());
  location.assign(url);
}

// ---------------------------------------------------------------- requests

/** Sends a request; `body` goes as JSON. A 304 has no `data`. Throws a Problem. */
export async function call(method, path, { body, key, etag, signal: gone } = {}) {
  const send = () => {
    const headers = { authorization: `Bearer ${tokens.value?.access_token}` };
    if (body) headers["content-type"] = "application/json";
    if (key) headers["idempotency-key"] = key;
    if (etag) headers["if-none-match"] = etag;
    const patience = AbortSignal.timeout(PATIENCE);
    return fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store", signal: gone ? AbortSignal.any([gone, patience]) : patience });
  };
  let answer;
  try {
    answer = await send();
    if (answer.status === 401 && (await refresh())) answer = await send();
  } catch (error) {
    if (gone?.aborted) throw error;
    throw new Problem(0, { title: "unreachable" });
  }
  if (answer.status === 401) {
    tokens.value = null;
    failure.value = "sign-in.over";
  }
  const type = answer.headers.get("content-type") ?? "";
  const data = type.includes("json") && answer.status !== 304 ? await answer.json().catch(() => ({})) : undefined;
  if (answer.status >= 400) throw new Problem(answer.status, data, Number(answer.headers.get("retry-after")) || undefined);
  return { status: answer.status, data: data ?? (answer.status === 304 ? undefined : await answer.text()), etag: answer.headers.get("etag") };
}

export const get = async (path, gone) => (await call("GET", path, { signal: gone })).data;

/** A path with the parameters that have a value. */
export function withQuery(path, parameters) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
  return query.size ? `${path}?${query}` : path;
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The same request for a terminal, in which somebody has put a token of their own into TOKEN. */
export function curl(method, path, body, key) {
  const parts = ["curl", ...(method === "GET" || body ? [] : ["-X", method]), quoted(location.origin + path), '-H "authorization: Bearer $TOKEN"'];
  if (method === "PUT" && body) parts.splice(1, 0, "-X", "PUT");
  if (key) parts.push("-H", quoted(`idempotency-key: ${key}`));
  if (body) parts.push("--json", quoted(JSON.stringify(body)));
  return parts.join(" ");
}
