// Lists of orders: what is asked for stands in the URL, so that it can be kept and sent to others.
import { useRef } from "preact/hooks";
import { Curl, go, html, Loading, OrderRows, Page, route, Trouble, useGet } from "/console/parts.js";
import { withQuery } from "/console/session.js";
import { number, t } from "/console/text.js";

const STATUSES = ["needs_attention", "created", "reserved", "paid", "shipped", "confirmed", "cancelling", "cancelled", "rejected"];
export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Where a search leads: to the order, if it is a whole id. */
export const search = (text) => (UUID.test(text.trim()) ? `/console/orders/${text.trim().toLowerCase()}` : withQuery("/console/orders", { q: text.trim() }));

/** A time of the form's in the viewer's zone, as the API wants it; and the way back. */
export const asUtc = (local) => (local ? new Date(local).toISOString() : "");
export function asLocal(utc) {
  if (!utc) return "";
  const date = new Date(utc);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

export function Pager({ page, pages, next, previous, newest }) {
  return html`<nav class="pager" aria-label=${t("nav.list")}>
    ${newest && html`<a href=${newest}>${t("first")}</a>`}
    ${previous && html`<a href=${previous}>${t("previous")}</a>`}
    ${pages > 1 && html`<span class="faint">${t("page.of", { page: number(page), pages: number(pages) })}</span>`}
    ${next && html`<a href=${next}>${t(pages ? "next" : "older")}</a>`}
  </nav>`;
}

export const cursorOf = (next) => next && new URLSearchParams(next.split("?")[1]).get("after");

export function Orders() {
  const { q, status, from, to, after, page = "1" } = route.value.query;
  const form = useRef();
  const path = q ? withQuery("/api/v1/orders/search", { q, page, page_size: "25" }) : withQuery("/api/v1/orders", { status, from, to, after, page_size: "25" });
  const { data, problem, reload } = useGet(path);
  const apply = (event) => {
    event?.preventDefault();
    const asked = Object.fromEntries(new FormData(form.current));
    go(asked.q.trim() ? search(asked.q) : withQuery("/console/orders", { status: asked.status, from: asUtc(asked.from), to: asUtc(asked.to) }));
  };
  const at = (changed) => withQuery("/console/orders", { q, status, from, to, ...changed });
  return html`<${Page} title=${t("orders")} tools=${html`<${Curl} path=${path} />`}>
    <form class="filters" ref=${form} onSubmit=${apply} role="search" key=${JSON.stringify(route.value.query)}>
      <div class="field grow"><label for="q">${t("filter.search")}</label><input id="q" name="q" type="search" value=${q ?? ""} maxlength="100" placeholder=${t("find.hint")} /></div>
      <div class="field"><label for="status">${t("filter.status")}</label><select id="status" name="status" value=${status ?? ""} onChange=${() => !form.current.q.value && apply()}><option value="">${t("all")}</option>${STATUSES.map((name) => html`<option value=${name}>${t(`status:${name}`)}</option>`)}</select></div>
      <div class="field"><label for="from">${t("from")}</label><input id="from" name="from" type="datetime-local" value=${asLocal(from)} /></div>
      <div class="field"><label for="to">${t("to")}</label><input id="to" name="to" type="datetime-local" value=${asLocal(to)} /></div>
      <div class="buttons"><button type="submit" class="primary">${t("show")}</button>${(q || status || from || to) && html`<a class="button" href="/console/orders">${t("filter.clear")}</a>`}</div>
    </form>
    ${q && html`<p class="faint">${data ? t(data.total_is_exact ? "found" : "found.at-least", { count: number(data.total_count) }) + " · " : ""}${t("filter.q-only")}</p>`}
    <${Trouble} problem=${problem} retry=${reload} />
    ${!data && !problem && html`<${Loading} />`}
    ${data && (data.orders.length ? html`<${OrderRows} orders=${data.orders} />` : html`<p class="empty">${t("nothing")}</p>`)}
    ${data && (q ? html`<${Pager} page=${data.page} pages=${data.total_pages} next=${data.next && at({ page: data.page + 1 })} previous=${data.previous && at({ page: data.page - 1 })} />` : html`<${Pager} next=${data.next && at({ after: cursorOf(data.next) })} newest=${after && at({})} />`)}
  <//>`;
}

