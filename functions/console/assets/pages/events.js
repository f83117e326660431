// What of one type has happened in a window of time, to whatever order.
import { useRef } from "preact/hooks";
import { Actor, Curl, customerPath, go, html, Loading, OrderLink, Page, Rows, route, Time, Trouble, useGet, what, why } from "/console/parts.js";
import { withQuery } from "/console/session.js";
import { asLocal, asUtc, cursorOf, Pager } from "/console/pages/orders.js";
import { t } from "/console/text.js";

const TYPES = ["OrderCreated", "ValidationFailed", "InventoryReserved", "ReservationFailed", "PaymentCompleted", "PaymentNotRequired", "PaymentFailed", "ShipmentCreated", "ShipmentFailed", "OrderConfirmed", "ShipmentDelivered", "OrderRejected", "OrderCancelRequested", "ShipmentCancelled", "PaymentRefunded", "InventoryReleased", "OrderCancelled", "OrderFlagged", "FulfilmentResumed", "StepSkipped", "RefundRequested", "RefundCompleted", "RefundFailed", "BooksCompared", "CustomerProfileUpdated"];
const DAY = 86_400_000;

export function Events() {
  const form = useRef();
  const now = useRef(Date.now());
  const { type = "OrderFlagged", from = new Date(now.current - DAY).toISOString(), to = new Date(now.current).toISOString(), after } = route.value.query;
  const path = withQuery("/api/v1/events", { type, from, to, after, page_size: "50" });
  const { data, problem, reload } = useGet(path);
  const apply = (event) => {
    event?.preventDefault();
    const asked = Object.fromEntries(new FormData(form.current));
    go(withQuery("/console/events", { type: asked.type, from: asUtc(asked.from), to: asUtc(asked.to) }));
  };
  const at = (changed) => withQuery("/console/events", { type, from, to, ...changed });
  return html`<${Page} title=${t("events")} lead=${t("events.lead")} tools=${html`<${Curl} path=${path} />`}>
    <form class="filters" ref=${form} onSubmit=${apply} key=${JSON.stringify(route.value.query)}>
      <div class="field grow"><label for="type">${t("events.type")}</label><select id="type" name="type" value=${type} onChange=${apply}>${TYPES.map((name) => html`<option value=${name}>${name}</option>`)}</select></div>
      <div class="field"><label for="from">${t("from")}</label><input id="from" name="from" type="datetime-local" required value=${asLocal(from)} /></div>
      <div class="field"><label for="to">${t("to")}</label><input id="to" name="to" type="datetime-local" required value=${asLocal(to)} /></div>
      <div class="buttons"><button type="submit" class="primary">${t("show")}</button></div>
    </form>
    <${Trouble} problem=${problem} retry=${reload} />
    ${!data && !problem && html`<${Loading} />`}
    ${data && (data.events.length ? html`<${Rows} label=${t("events")} columns=${[t("column.when"), t("column.order"), t("column.who"), t("column.what")]}>
      ${data.events.map((event) => html`<tr key=${`${event.stream} ${event.version}`}><td><${Time} at=${event.occurred_at} /></td>
        <td>${event.order_id ? html`<${OrderLink} id=${event.order_id} />` : html`<a href=${customerPath(event.stream.slice("customer#".length))}>${t("customer")}</a>`} <span class="faint">v${event.version}</span></td>
        <td><${Actor} actor=${event.actor} /></td><td>${what(event)} ${why(event) && html`<q><bdi>${why(event)}</bdi></q>`}<details><summary>${t("order.data")}</summary><pre tabindex="0">${JSON.stringify(event.data, null, 2)}</pre></details></td></tr>`)}<//>` : html`<p class="empty">${t("nothing")}</p>`)}
    ${data && html`<${Pager} next=${data.next && at({ after: cursorOf(data.next) })} newest=${after && at({})} />`}
  <//>`;
}
