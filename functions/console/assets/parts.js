// What pages are made of.
import { h } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { signal } from "@preact/signals";
import htm from "htm";
import { call, claims, curl, get } from "/console/session.js";
import { duration, moment, money, t } from "/console/text.js";

export const html = htm.bind(h);

// ---------------------------------------------------------------- where we are: everything is in the URL

const here = () => ({ path: location.pathname.replace(/^\/console\/?/, "").split("/").map(decodeURIComponent), query: Object.fromEntries(new URLSearchParams(location.search)) });
export const route = signal(here());

export function go(url, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", url);
  route.value = here();
}

addEventListener("popstate", () => (route.value = here()));

/** Follows links inside the console without a new page. */
export function follow(event) {
  const link = event.target.closest?.("a[href^='/console']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const samePage = new URL(link.href).pathname === location.pathname;
  go(link.getAttribute("href"));
  if (!samePage) scrollTo(0, 0);
}

export const orderPath = (id) => `/console/orders/${encodeURIComponent(id)}`;
export const customerPath = (id) => `/console/customers/${encodeURIComponent(id)}`;

/** How the API takes a customer's id in a path. Of the plain ones some would mean oneself, another route, or none. */
export function customerSegment(id) {
  if (/^[A-Za-z0-9\-._]+$/.test(id) && !["me", "events", "ledger", ".", ".."].includes(id)) return id;
  return "~" + btoa(id).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

// ---------------------------------------------------------------- loading

/** What `load` answers, anew whenever `deps` change and, with `every`, after so many milliseconds, while the page is in front. */
export function useLoad(load, deps, every) {
  const [state, set] = useState({});
  const [turn, again] = useState(0);
  useEffect(() => {
    const gone = new AbortController();
    let timer;
    const run = async () => {
      try {
        const data = await load(gone.signal);
        if (!gone.signal.aborted) set({ data });
      } catch (problem) {
        if (!gone.signal.aborted) set((before) => ({ ...before, problem }));
      }
      if (every && !gone.signal.aborted) timer = setTimeout(inFront, every);
    };
    const inFront = () => {
      if (!document.hidden) return run();
      document.addEventListener("visibilitychange", inFront, { once: true, signal: gone.signal });
    };
    run();
    return () => {
      gone.abort();
      clearTimeout(timer);
    };
  }, [...deps, turn]);
  return { ...state, reload: () => again((turn) => turn + 1) };
}

export const useGet = (path, every) => useLoad((gone) => (path ? get(path, gone) : undefined), [path], every);

export function Trouble({ problem, retry }) {
  if (!problem) return null;
  const known = [0, 403, 404, 429, 503].includes(problem.status) ? t(`problem.${problem.status}`) : "";
  return html`<div class="trouble" role="alert">
    <strong>${problem.title && problem.status ? problem.title : t("problem")}</strong>
    ${[known, problem.status ? problem.message : ""].filter(Boolean).map((text) => html`<p>${text}</p>`)}
    ${problem.errors?.length > 0 && html`<ul>${problem.errors.map(({ pointer, detail }) => html`<li><code>${pointer}</code> ${detail}</li>`)}</ul>`}
    ${problem.body?.correlation_id && html`<p class="faint">${t("correlation", { id: problem.body.correlation_id })}</p>`}
    ${retry && html`<button type="button" onClick=${retry}>${t("reload")}</button>`}
  </div>`;
}

export const Loading = () => html`<p class="loading" role="status">${t("loading")}</p>`;

// ---------------------------------------------------------------- small things

export const Page = ({ title, lead, children, tools }) => {
  useEffect(() => void (document.title = `${title} · ${t("title")}`), [title]);
  return html`<header class="page-head"><div><h1 tabindex="-1" id="page">${title}</h1>${lead && html`<p class="lead">${lead}</p>`}</div>${tools && html`<div class="tools">${tools}</div>`}</header>${children}`;
};

export const Status = ({ of }) => html`<span class=${`status ${of}`}>${t(`status:${of}`)}</span>`;
export const Time = ({ at }) => html`<time datetime=${at} title=${new Date(at).toISOString()}>${moment(at)}</time>`;
export const Money = ({ of }) => html`<span class="money">${money(of)}</span>`;
/** What tells orders apart: ids that were made within a minute begin alike. */
export const short = (id) => (id.length > 12 ? `${id.slice(0, 4)}…${id.slice(-6)}` : id);
export const OrderLink = ({ id }) => html`<a class="id" href=${orderPath(id)} title=${id}>${short(id)}</a>`;
export const nameOf = ({ first_name, last_name, email }) => [first_name, last_name].filter(Boolean).join(" ") || email || "";

export const CustomerLink = ({ customer }) =>
  html`<a href=${customerPath(customer.id)} title=${customer.id}><bdi>${nameOf(customer) || t("nameless")}</bdi></a>`;

/** Who did it: the API knows people by the ids that the issuer gives them, not by names. */
export function Actor({ actor }) {
  const [role, ...rest] = actor.split(":");
  const id = rest.join(":");
  if (id === claims.value?.sub) return html`<span class="actor" title=${actor}>${t("you")}</span>`;
  const name = role === "service" ? id : short(id);
  return html`<span class="actor" title=${actor}>${t(`who:${role}`)} <bdi>${role === "customer" ? html`<a href=${customerPath(id)}>${name}</a>` : name}</bdi></span>`;
}

/** Rows that are a table where there is room, and cards where there is none. A column of numbers has its name in brackets. */
export const Rows = ({ label, columns, children }) =>
  html`<div class="rows"><table aria-label=${label}><thead><tr>${columns.map((column) => html`<th scope="col" class=${Array.isArray(column) ? "number" : ""}>${column}</th>`)}</tr></thead><tbody>${children}</tbody></table></div>`;

export const OrderRows = ({ orders, customer = true }) =>
  html`<${Rows} label=${t("orders")} columns=${[t("column.order"), ...(customer ? [t("column.customer")] : []), t("column.status"), [t("column.total")], [t("column.items")], t("column.placed")]}>
    ${orders.map(
      (order) => html`<tr key=${order.id}>
        <td><${OrderLink} id=${order.id} /></td>
        ${customer && html`<td><${CustomerLink} customer=${order.customer} /></td>`}
        <td><${Status} of=${order.status} /></td>
        <td class="number"><${Money} of=${order.total_amount} /></td>
        <td class="number" data-label=${t("column.items")}>${order.item_count}</td>
        <td><${Time} at=${order.created_at} /></td>
      </tr>`,
    )}
  <//>`;

// ---------------------------------------------------------------- what is said in passing

export const said = signal("");
let silence;

export function say(text) {
  said.value = text;
  clearTimeout(silence);
  silence = setTimeout(() => (said.value = ""), 6_000);
}

export function Curl({ method = "GET", path, body, idempotencyKey }) {
  const copy = () => navigator.clipboard.writeText(curl(method, path, body, idempotencyKey)).then(() => say(t("copied")), () => say(t("copy.failed")));
  return html`<button type="button" class="quiet" onClick=${copy}>${t("curl")}</button>`;
}

// ---------------------------------------------------------------- commands

/**
 * A button, and the dialog that says what will be before it is done. `fields` are `{ name, label, value, hint, required, check, long }`,
 * `request` makes the request of what was typed: `{ method, path, body }`. The key is made once for each dialog: to send it again after
 * an answer was lost does it once. `goOn` makes of an answer the body of the call that does the rest, if there is any; whoever closes the
 * dialog stops that.
 */
export function Command({ label, title, doing, fields = [], request, children, opened, goOn, done, danger, keyed = true }) {
  const dialog = useRef();
  const [state, set] = useState(null); // null while it is closed
  const open = () => {
    set({ key: crypto.randomUUID(), typed: Object.fromEntries(fields.map(({ name, value = "" }) => [name, value])) });
    opened?.();
  };
  useEffect(() => void (state && !dialog.current.open && dialog.current.showModal()), [state]);
  if (!state) return html`<button type="button" class=${danger ? "danger" : ""} onClick=${open}>${label}</button>`;
  const { typed, key, busy, problem } = state;
  const wrong = (field) => (field.required && !typed[field.name].trim()) || field.check?.(typed[field.name], typed);
  const asked = fields.some(wrong) ? null : request(typed);
  const send = async (event) => {
    event.preventDefault();
    if (!asked || busy) return;
    set({ ...state, busy: true, problem: undefined });
    const shown = dialog.current;
    try {
      let [data, body] = [undefined, asked.body];
      do {
        ({ data } = await call(asked.method ?? "POST", asked.path, { body, key: keyed ? key : undefined }));
        body = goOn?.(data, body);
      } while (body && shown.open && shown.isConnected);
      shown.close();
      done(data);
    } catch (problem) {
      set({ ...state, busy: false, problem });
    }
  };
  return html`<button type="button" class=${danger ? "danger" : ""}>${label}</button>
    <dialog ref=${dialog} onClose=${() => set(null)} aria-labelledby="dialog-title">
      <form method="dialog" onSubmit=${send}>
        <h2 id="dialog-title">${title}</h2>
        <div class="consequence">${typeof children === "function" ? children(typed) : children}</div>
        ${fields.map((field) => {
          const complaint = typed[field.name] && field.check?.(typed[field.name], typed);
          const input = { id: `field-${field.name}`, name: field.name, value: typed[field.name], required: field.required, maxlength: field.max ?? 500, autocomplete: "off",
            inputmode: field.inputmode, "aria-invalid": complaint ? "true" : undefined, onInput: ({ target }) => set((now) => now && { ...now, typed: { ...now.typed, [field.name]: target.value } }) };
          return html`<div class="field"><label for=${input.id}>${field.label}</label>
            ${field.long ? html`<textarea rows="2" ...${input}></textarea>` : html`<input ...${input} />`}
            ${(complaint || field.hint) && html`<small class=${complaint ? "wrong" : ""}>${complaint || field.hint}</small>`}</div>`;
        })}
        <${Trouble} problem=${problem} />
        <div class="buttons">
          <button type="submit" class=${danger ? "danger primary" : "primary"} disabled=${!asked || busy}>${busy ? t("loading") : doing}</button>
          <button type="button" onClick=${() => dialog.current.close()}>${t(busy && goOn ? "stop" : "back")}</button>
          ${asked && html`<${Curl} method=${asked.method ?? "POST"} path=${asked.path} body=${asked.body} idempotencyKey=${keyed && key} />`}
        </div>
      </form>
    </dialog>`;
}

export const reasonField = () => ({ name: "reason", label: t("reason"), hint: t("reason.hint"), required: true, long: true });

/** The events' own words for what happened. */
export function what({ type, data }) {
  const amount = data?.amount ?? data?.total_amount;
  return t(`event:${type}`, { amount: amount && money(amount), step: data?.step });
}

/** Why, in the words of whoever did it or refused it. */
export function why({ data }) {
  const reason = data?.reason;
  return typeof reason === "string" ? [reason, data.note].filter(Boolean).join(" – ") : [reason?.code, reason?.decline_code, reason?.refusal_code].filter(Boolean).join(": ");
}

export const after = (earlier, later) => `+${duration(Math.max(0, (new Date(later) - new Date(earlier)) / 1000))}`;
