// One order: the way it has gone, what it was at any point of it, the books, and what can be done.
import { useEffect, useRef, useState } from "preact/hooks";
import { Actor, after, Command, Curl, CustomerLink, go, html, Loading, Money, Page, reasonField, route, short, Status, Time, Trouble, useLoad, what, why } from "/console/parts.js";
import { call, get, isSupervisor, Problem } from "/console/session.js";
import { comesNext, minorUnits, moment, money, t, typedMoney } from "/console/text.js";

const MOVING = 1_500; // milliseconds between two looks at an order that goes on, and at one that rests
const RESTING = 10_000;
const AT_REST = ["confirmed", "cancelled", "rejected", "needs_attention"];
const PAGES_MAX = 10; // of a history
const SKIPPABLE = ["send-confirmation", "cancel-shipment", "refund-payment", "release-inventory", "issue-refund", "compare-books"];

// ---------------------------------------------------------------- what is asked of the API

/** The order, asked for only what has changed, again and again while the page is in front. */
function useOrder(id) {
  const [state, set] = useState({});
  const [turn, again] = useState(0);
  const seen = useRef({});
  const hurry = useRef(0);
  useEffect(() => {
    const gone = new AbortController();
    let timer;
    if (seen.current.id !== id) seen.current = { id };
    const look = async () => {
      let pause = RESTING;
      try {
        const { status, data, etag } = await call("GET", `/api/v1/orders/${id}`, { etag: seen.current.etag, signal: gone.signal });
        if (status !== 304) {
          seen.current = { id, etag, order: data };
          set({ order: data });
        }
        if (!AT_REST.includes(seen.current.order.status) || seen.current.order.refunds.some((refund) => refund.status === "requested")) pause = MOVING;
        // What was just asked for may not have begun yet.
        if (Date.now() < hurry.current) pause = MOVING;
      } catch (problem) {
        if (!gone.signal.aborted) set((before) => ({ ...before, problem }));
      }
      if (!gone.signal.aborted) timer = setTimeout(inFront, pause);
    };
    const inFront = () => (document.hidden ? document.addEventListener("visibilitychange", inFront, { once: true, signal: gone.signal }) : look());
    look();
    return () => {
      gone.abort();
      clearTimeout(timer);
    };
  }, [id, turn]);
  const reload = () => again((turn) => turn + 1);
  const asked = () => {
    hurry.current = Date.now() + 20_000;
    reload();
  };
  return { ...state, reload, asked };
}

async function history(id, gone) {
  const events = [];
  let path = `/api/v1/orders/${id}/events`;
  for (let page = 0; path && page < PAGES_MAX; page += 1) {
    const answer = await get(path, gone);
    events.push(...answer.events);
    path = answer.next;
  }
  return events;
}

// ---------------------------------------------------------------- what is shown

const STEPS = [
  { name: "created", does: ["OrderCreated"], refuses: ["ValidationFailed"] },
  { name: "reserved", does: ["InventoryReserved"], refuses: ["ReservationFailed"], undoes: "InventoryReleased" },
  { name: "paid", does: ["PaymentCompleted", "PaymentNotRequired"], refuses: ["PaymentFailed"], undoes: "PaymentRefunded" },
  { name: "shipped", does: ["ShipmentCreated"], refuses: ["ShipmentFailed"], undoes: "ShipmentCancelled" },
  { name: "confirmed", does: ["OrderConfirmed"] },
  { name: "delivered", does: ["ShipmentDelivered"] },
];

/** How far each step is: what was done may have been undone. */
function track(events) {
  const types = new Set(events.map(({ type }) => type));
  return STEPS.map(({ name, does, refuses = [], undoes }) => {
    const done = does.some((type) => types.has(type));
    const state = done && types.has(undoes) ? "undone" : done ? "done" : refuses.some((type) => types.has(type)) ? "failed" : "open";
    return { name, state };
  });
}

const Track = ({ events }) => html`<ol class="track" aria-label=${t("order.track")}>
  ${track(events).map(({ name, state }) => html`<li key=${name} class=${state}><span>${t(`status:${name}`)}</span> ${["undone", "failed"].includes(state) && html`<em>${t(state)}</em>`}</li>`)}
</ol>`;

const FIELDS = ["status", "payment", "shipment", "refunds", "rejection", "cancellation", "attention", "items", "shipping_address", "total_amount"];
const changed = (before, now) => (before && now ? FIELDS.filter((field) => JSON.stringify(before[field]) !== JSON.stringify(now[field])) : []);

/** The order as it was at a version, and what that version changed; each is asked for once. */
function usePast(id, version, last) {
  const kept = useRef(new Map());
  return useLoad(
    async (gone) => {
      if (version >= last) return {};
      await new Promise((resolve) => setTimeout(resolve, 120)); // somebody is still dragging
      if (gone.aborted) return {};
      const at = async (version) => {
        if (!kept.current.has(version)) kept.current.set(version, (await get(`/api/v1/orders/${id}/events?at=${version}`, gone)).order);
        return kept.current.get(version);
      };
      return { version, order: await at(version), before: version > 1 ? await at(version - 1) : undefined };
    },
    [id, version, last],
  );
}

function Slider({ version, last, choose, past, event }) {
  const lit = past ? changed(past.before, past.order) : [];
  return html`<section class="slider" aria-label=${t("order.history")}>
    <input type="range" min="1" max=${last} value=${version} aria-label=${t("order.version", { version, last })} aria-valuetext=${`${t("order.version", { version, last })}${event ? `: ${what(event)}` : ""}`} onInput=${({ target }) => choose(Number(target.value))} />
    <p><strong>${t("order.version", { version, last })}</strong>${event && html` · ${what(event)}`}
      ${version < last && html` · <span class="lit">${event && t("order.then", { time: moment(event.occurred_at) })}</span>${past?.before && html` · ${lit.length ? t("order.changed", { fields: lit.map((field) => t(`field:${field}`)).join(", ") }) : t("order.changed.nothing")}`}
      <button type="button" class="quiet" onClick=${() => choose(last)}>${t("order.latest")}</button>`}</p>
  </section>`;
}

function History({ events, version, choose }) {
  return html`<section class="card wide"><h2>${t("order.history")}</h2><ol class="events">
    ${events.map(
      (event, index) => html`<li key=${event.version} class=${event.version === version ? "at" : event.version > version ? "later" : ""}>
        <button type="button" class="version" onClick=${() => choose(event.version)} aria-label=${t("order.version", { version: event.version, last: events.length })}>${event.version}</button>
        <div><strong>${what(event)}</strong> ${why(event) && html`<q><bdi>${why(event)}</bdi></q>`}
          <p class="faint"><${Actor} actor=${event.actor} /> · <${Time} at=${event.occurred_at} />${index > 0 && html` · ${after(events[index - 1].occurred_at, event.occurred_at)}`}</p>
          <details><summary>${event.type}</summary><pre tabindex="0">${JSON.stringify(event.data, null, 2)}</pre></details></div>
      </li>`,
    )}
  </ol></section>`;
}

export function BookRows({ ledger }) {
  const amount = (value) => money({ amount: value, currency: ledger.currency });
  const reserved = (books) => books.reserved.map(({ product_id, quantity }) => `${quantity} × ${product_id}`).sort().join(", ") || "–";
  const lines = [
    ["charged", (books) => amount(books.charged)],
    ["refunded", (books) => amount(books.refunded)],
    ["reserved", reserved],
    ["shipment", (books) => t(`book:${books.shipment}`)],
  ];
  return html`<table class="books"><thead><tr><td></td><th scope="col">${t("order.books.ours")}</th><th scope="col">${t("order.books.theirs")}</th><td></td></tr></thead><tbody>
    ${lines.map(([name, show]) => {
      const [ours, theirs] = [show(ledger.order), show(ledger.providers)];
      const same = ours === theirs;
      return html`<tr key=${name} class=${same ? "" : "differs"}><th scope="row">${t(`books.${name}`)}</th><td>${ours}</td><td>${theirs}</td><td><span class="mark" role="img" aria-label=${t(same ? "agrees" : "differs")}>${same ? "✓" : "✗"}</span></td></tr>`;
    })}</tbody></table>`;
}

function Books({ ledger, problem }) {
  return html`<section class=${`card ${ledger && !ledger.agrees ? "alarm" : ""}`}><h2>${t("order.books")} ${ledger && html`<small>${t(ledger.agrees ? "order.books.agree" : "order.books.differ")}</small>`}</h2>
    ${ledger ? html`<${BookRows} ledger=${ledger} />` : problem ? html`<p>${t("order.books.none")}</p>` : html`<${Loading} />`}</section>`;
}

function Next({ timeline }) {
  if (!timeline) return null;
  const { next, tries } = timeline;
  const { lang, what } = comesNext(timeline);
  return html`<section class="card"><h2>${t("order.next")}</h2><p><strong>${t(`waits:${next.waits_for}`)}</strong>${next.by && html` · <${Time} at=${next.by} />`}</p><p lang=${lang}>${what}</p>
    ${tries && html`<p class="faint">${t("tries", tries)}${tries.next_by && html` · ${t("tries.next", { time: moment(tries.next_by) })}`}</p>`}</section>`;
}

const Lit = ({ on, children }) => html`<div class=${on ? "lit" : ""}>${children}</div>`;

function Facts({ order, lit }) {
  const { payment, shipment, shipping_address: address, refunds } = order;
  const is = (field) => lit.includes(field);
  return html`<section class="card wide facts">
    <${Lit} on=${is("items")}><h2>${t("order.items")}</h2><ul class="plain">${order.items.map((item) => html`<li key=${item.product_id}><bdi>${item.name}</bdi> <span class="faint">${item.quantity} × </span><${Money} of=${item.unit_price} /></li>`)}</ul><p><span class="faint">${t("order.total")}</span> <${Money} of=${order.total_amount} /></p><//>
    <${Lit} on=${is("shipping_address")}><h2>${t("order.address")}</h2><p><bdi>${[address.street, address.city, address.state, address.postal_code, address.country].filter(Boolean).join(", ")}</bdi></p><//>
    <${Lit} on=${is("payment")}><h2>${t("status:paid")}</h2><p>${payment ? html`${t(`payment:${payment.status}`)} <${Money} of=${payment.amount} /> <span class="faint">${payment.transaction_id}</span>` : "–"}</p><//>
    <${Lit} on=${is("shipment")}><h2>${t("order.parcel")}</h2><p>${shipment ? html`${t(`book:${shipment.status}`)} · ${shipment.carrier} <span class="faint">${shipment.tracking_number}</span>` : "–"}</p><//>
    ${refunds.length > 0 && html`<${Lit} on=${is("refunds")}><h2>${t("order.refunds")}</h2><ul class="plain refunds">${refunds.map((refund) => html`<li key=${refund.refund_id}><${Money} of=${refund.amount} /> <span class=${`refund ${refund.status}`}>${t(`refund:${refund.status}`)}</span> <q><bdi>${refund.reason}</bdi></q></li>`)}</ul><//>`}
    ${order.rejection && html`<${Lit} on=${is("rejection")}><h2>${t("order.rejection")}</h2><p lang="en">${order.rejection.detail}</p><//>`}
    ${order.cancellation && html`<${Lit} on=${is("cancellation")}><h2>${t("order.cancellation")}</h2><p><bdi>${order.cancellation.reason}</bdi></p><//>`}
  </section>`;
}

// ---------------------------------------------------------------- what can be done

/** Where no step goes forward any more, also if it is stuck on the way. */
const isBeingUndone = ({ status, attention }) => ["cancelling", "cancelled", "rejected"].includes(attention?.interrupted ?? status);

/** What can still be given back, in minor units. */
const refundable = (order) => {
  const { payment, refunds } = order;
  if (payment?.status !== "completed" || isBeingUndone(order)) return 0;
  return refunds.filter(({ status }) => status !== "failed").reduce((left, refund) => left - refund.amount.amount, payment.amount.amount);
};

/** Lets a stuck order go on, or go on without what it is stuck at. */
export function Unstick({ order, done }) {
  const { step } = order.attention ?? {};
  const path = `/api/v1/orders/${order.id}/fulfilment`;
  return html`<${Command} label=${t("act.resume")} title=${t("act.resume.title")} doing=${t("act.resume.do")} fields=${[reasonField()]} done=${done}
      request=${({ reason }) => ({ path: `${path}/resume`, body: { reason } })}><p>${t("act.resume.then", { step })}</p><//>
    ${isSupervisor.value && SKIPPABLE.includes(step) && html`<${Command} danger label=${t("act.skip")} title=${t("act.skip.title", { step })} doing=${t("act.skip.do")} fields=${[reasonField()]} done=${done}
      request=${({ reason }) => ({ path: `${path}/skip`, body: { step, reason } })}><p>${t("act.skip.then", { step, what: t(`skip:${step}`) })}</p><//>`}`;
}

function Actions({ order, ledger, done }) {
  const path = `/api/v1/orders/${order.id}`;
  const { status, payment, shipment } = order;
  const delivered = shipment?.status === "delivered";
  const left = refundable(order);
  const currency = order.total_amount.currency;
  const wrongAmount = (typed) => {
    const amount = minorUnits(typed, currency);
    return !(amount > 0 && amount <= left) && t("amount.wrong", { currency });
  };
  const undone = [
    shipment?.status === "created" && t("undo.shipment"),
    payment?.status === "completed" && left > 0 && t("undo.payment", { amount: money({ amount: left, currency }) }),
    status !== "created" && t("undo.stock"),
  ].filter(Boolean);
  return html`<div class="actions">
    ${status === "needs_attention" && html`<${Unstick} order=${order} done=${done} />`}
    ${left > 0 && html`<${Command} label=${t("act.refund")} title=${t("act.refund.title")} doing=${t("act.refund.do")} done=${done}
      fields=${[{ name: "amount", label: t("amount", { currency }), value: typedMoney({ amount: left, currency }), inputmode: "decimal", required: true, check: wrongAmount }, reasonField()]}
      request=${({ amount, reason }) => ({ path: `${path}/refunds`, body: { amount: { amount: minorUnits(amount, currency), currency }, reason } })}>
      <p>${t("act.refund.then", { amount: money({ amount: left, currency }) })}</p>${ledger && !ledger.agrees && html`<p class="warning"><strong>${t("act.refund.differ")}</strong></p><${BookRows} ledger=${ledger} />`}<//>`}
    ${shipment?.status === "created" && ["shipped", "confirmed"].includes(status) && html`<${Command} label=${t("act.deliver")} title=${t("act.deliver.title")} doing=${t("act.deliver.do")} done=${done} keyed=${false}
      request=${() => ({ path: `${path}/delivery` })}><p>${t("act.deliver.then")}</p><//>`}
    ${!delivered && !isBeingUndone(order) && html`<${Command} danger label=${t("act.cancel")} title=${t("act.cancel.title")} doing=${t("act.cancel.do")} done=${done} keyed=${false}
      fields=${[reasonField(), { name: "note", label: t("note") }]} request=${({ reason, note }) => ({ path: `${path}/cancel`, body: note.trim() ? { reason, note } : { reason } })}>
      <p>${undone.length ? t("act.cancel.then") : t("act.cancel.nothing")}</p>${undone.length > 0 && html`<ol class="undo">${undone.map((step) => html`<li>${step}</li>`)}</ol>`}<//>`}
  </div>`;
}

export function Order({ id }) {
  const live = useOrder(id);
  const { order, problem } = live;
  // What follows from the order is asked for anew with each version of it.
  const version = order?.version;
  const events = useLoad(async (gone) => (version ? history(id, gone) : undefined), [id, version]);
  const ledger = useLoad(async (gone) => (version ? get(`/api/v1/orders/${id}/ledger`, gone) : undefined), [id, version]);
  const timeline = useLoad(async (gone) => (version ? get(`/api/v1/orders/${id}/timeline`, gone) : undefined), [id, version], AT_REST.includes(order?.status) ? undefined : MOVING * 4);
  const last = Math.max(version ?? 1, events.data?.at(-1)?.version ?? 1);
  const chosen = Math.min(Number(route.value.query.at) || last, last);
  const choose = (version) => go(version >= last ? `/console/orders/${id}` : `/console/orders/${id}?at=${version}`, { replace: true });
  const { data: past, problem: pastProblem } = usePast(id, chosen, last);
  if (problem instanceof Problem && problem.status === 404) return html`<${Page} title=${t("order.none")} />`;
  if (!order) return html`<${Page} title=${t("order", { id: short(id) })} /><${Trouble} problem=${problem} retry=${live.reload} />${!problem && html`<${Loading} />`}`;
  const then = chosen < last && past?.version === chosen ? past : null;
  const shown = then?.order ?? order;
  const all = events.data ?? [];
  return html`<${Page} title=${t("order", { id: short(id) })} tools=${html`<${Curl} path=${`/api/v1/orders/${id}`} />`}>
    <div class="summary"><${Status} of=${shown.status} /><${Money} of=${shown.total_amount} /><${CustomerLink} customer=${order.customer} /><code class="faint">${id}</code><span class="live faint">${t("order.live")}</span></div>
    <${Trouble} problem=${problem ?? pastProblem ?? events.problem} retry=${live.reload} />
    ${shown.attention && html`<p class="verdict stuck" role="status"><strong>${t("order.stuck", shown.attention)}</strong></p>`}
    <${Track} events=${all.filter((event) => event.version <= chosen)} />
    <${Slider} version=${chosen} last=${last} choose=${choose} past=${then} event=${all.find((event) => event.version === chosen)} />
    <${Actions} order=${order} ledger=${ledger.data} done=${live.asked} />
    <div class="columns">
      <${Next} timeline=${timeline.data} />
      <${Books} ledger=${ledger.data} problem=${ledger.problem} />
      <${Facts} order=${shown} lit=${then ? changed(then.before, then.order) : []} />
      <${History} events=${all} version=${chosen} choose=${choose} />
    </div>
  <//>`;
}
