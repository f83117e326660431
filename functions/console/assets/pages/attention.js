// Orders that wait for a person, the oldest first, each with the evidence beside the button.
import { useState } from "preact/hooks";
import { signal } from "@preact/signals";
import { BookRows, Unstick } from "/console/pages/order.js";
import { Command, CustomerLink, html, Loading, Money, OrderLink, Page, reasonField, say, Trouble, useGet, useLoad } from "/console/parts.js";
import { call, get } from "/console/session.js";
import { number, since, t } from "/console/text.js";

const LOOK = 30_000; // milliseconds
const PAGES_MAX = 5; // of a hundred orders; the API has the newest first, and the oldest are at the end
const SHOWN = 10; // at a time: each is asked for its books

/** The orders that wait, for whichever page wants them; asked for once. */
export const waiting = signal(null);

async function list(gone) {
  const orders = [];
  let path = "/api/v1/orders?status=needs_attention&page_size=100";
  for (let page = 0; path && page < PAGES_MAX; page += 1) {
    const answer = await get(path, gone);
    orders.push(...answer.orders);
    path = answer.next;
  }
  waiting.value = orders.sort((one, other) => one.updated_at.localeCompare(other.updated_at));
}

/** How many wait, for the menu, which is always there: so it is what asks. */
export function Count() {
  useLoad(list, [], LOOK);
  const count = waiting.value?.length;
  return count ? html` <span class="count">${number(count)}</span>` : null;
}

function Waiting({ order, reload }) {
  const { data: ledger, problem } = useGet(`/api/v1/orders/${order.id}/ledger`);
  return html`<li class="card"><div class="summary"><${OrderLink} id=${order.id} /><${CustomerLink} customer=${order.customer} /><${Money} of=${order.total_amount} /><span class="faint">${t("attention.since", { time: since(order.updated_at) })}</span></div>
    <p><code>${order.attention?.step}</code> · <strong>${order.attention?.reason}</strong> <span class="faint">${t("attention.interrupted", { status: t(`status:${order.attention?.interrupted}`) })}</span></p>
    ${ledger ? html`<${BookRows} ledger=${ledger} />` : problem ? html`<p>${t("order.books.none")}</p>` : html`<${Loading} />`}
    <div class="actions"><${Unstick} order=${order} done=${reload} /></div></li>`;
}

/** All that are stuck alike: first it is counted, then done. */
function ResumeAll({ step, reason, reload }) {
  const [count, set] = useState("…");
  const request = (why) => ({ path: "/api/v1/fulfilment/resume", body: { step, error: reason, reason: why } });
  const ask = () => call("POST", "/api/v1/fulfilment/resume", { body: { step, error: reason, reason: "dry run", dry_run: true } }).then(({ data }) => set(number(data.matching)), () => {});
  return html`<${Command} opened=${ask} label=${t("attention.all", { step, reason })} title=${t("attention.all.title", { count })} doing=${t("attention.all.do")} fields=${[reasonField()]}
    request=${({ reason }) => request(reason)} done=${(data) => { say(t("attention.all.done", { count: number(data.resumed) })); reload(); }}><p>${t("attention.all.then", { step, reason })}</p><//>`;
}

export function Attention() {
  const { problem, reload } = useLoad(list, []);
  const [shown, show] = useState(SHOWN);
  const orders = waiting.value;
  const kinds = Object.values(Object.groupBy(orders ?? [], ({ attention }) => `${attention?.step} ${attention?.reason}`)).filter((alike) => alike.length > 1);
  return html`<${Page} title=${t("attention")} lead=${t("attention.lead")}>
    <${Trouble} problem=${problem} retry=${reload} />
    ${!orders && !problem && html`<${Loading} />`}
    ${orders?.length === 0 && html`<p class="empty">${t("attention.none")}</p>`}
    ${kinds.length > 0 && html`<div class="actions">${kinds.map(([{ attention }]) => html`<${ResumeAll} key=${attention.step + attention.reason} step=${attention.step} reason=${attention.reason} reload=${reload} />`)}</div>`}
    <ul class="waiting">${orders?.slice(0, shown).map((order) => html`<${Waiting} key=${`${order.id} ${order.updated_at}`} order=${order} reload=${reload} />`)}</ul>
    ${orders?.length > shown && html`<p class="pager"><button type="button" onClick=${() => show(shown + SHOWN)}>${t("attention.more", { count: number(Math.min(SHOWN, orders.length - shown)) })}</button></p>`}
  <//>`;
}
