// Orders that go wrong on request: an order's own data say how (README.md). Only where the built-in providers listen to that.
import { useState } from "preact/hooks";
import { Curl, go, html, Loading, orderPath, Page, say, Trouble, useGet } from "/console/parts.js";
import { call, claims } from "/console/session.js";
import { money, t } from "/console/text.js";

const CARD = "pm_card_visa";
const POSTAL_CODE = "200001";
const WAYS = [
  ["fine"],
  ["declined", "pm_card_declined"],
  ["funds", "pm_card_insufficient_funds"],
  ["refuse", CARD, "SANDBOX-REFUSE"],
  ["lost", "pm_charged_then_timeout"],
  ["twice", "pm_fails_twice"],
  ["slow", "pm_slow"],
  ["refund", "pm_refund_fails"],
  ["refund-twice", "pm_refund_fails_twice"],
  ["parcel-lost", CARD, "SANDBOX-TIMEOUT"],
  ["keep", CARD, "SANDBOX-KEEP"],
  ["mute", CARD, "SANDBOX-MUTE"],
];
const TRIES = 40; // until the view has a new order

async function appears(id) {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    try {
      return await call("GET", `/api/v1/orders/${id}`);
    } catch (problem) {
      if (problem.status !== 404) throw problem;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

export function Sandbox() {
  const { data, problem, reload } = useGet("/api/v1/products?page_size=50");
  const products = data?.products.filter(({ stock }) => stock > 0) ?? [];
  const [chosen, choose] = useState("");
  const [customer, setCustomer] = useState(claims.value?.sub ?? "");
  const [placing, set] = useState({});
  const product = chosen || products[0]?.id;
  const body = (payment_method = CARD, postal_code = POSTAL_CODE) => ({
    customer_id: customer,
    items: [{ product_id: product, quantity: 1 }],
    payment_method,
    shipping_address: { street: "1 Nanjing Road", city: "Shanghai", state: "Shanghai", country: "CN", postal_code },
  });
  const place = async (name, ...how) => {
    set({ name });
    try {
      const { data: placed } = await call("POST", "/api/v1/orders", { body: body(...how), key: crypto.randomUUID() });
      await appears(placed.order_id);
      say(t("sandbox.placed"));
      go(orderPath(placed.order_id));
    } catch (problem) {
      set({ problem });
    }
  };
  return html`<${Page} title=${t("sandbox")} lead=${t("sandbox.lead")}>
    <${Trouble} problem=${problem ?? placing.problem} retry=${problem && reload} />
    ${!data && !problem && html`<${Loading} />`}
    ${data && !products.length && html`<p class="empty">${t("sandbox.none")}</p>`}
    ${products.length > 0 && html`<div class="filters">
      <div class="field grow"><label for="product">${t("sandbox.product")}</label><select id="product" value=${product} onChange=${({ target }) => choose(target.value)}>${products.map(({ id, name, price }) => html`<option value=${id}>${name} · ${money(price)}</option>`)}</select></div>
      <div class="field grow"><label for="customer">${t("sandbox.customer")}</label><input id="customer" value=${customer} maxlength="255" onInput=${({ target }) => setCustomer(target.value)} /></div></div>
      <ul class="ways">${WAYS.map(([name, ...how]) => html`<li key=${name} class="card"><h2>${t(`sandbox.${name}`)}</h2><p>${t(`sandbox.${name}.then`)}</p><p class="faint"><code>${how.at(-1) ?? CARD}</code></p>
        <div class="actions"><button type="button" class="primary" disabled=${placing.name || !customer} aria-label=${`${t("sandbox.place")}: ${t(`sandbox.${name}`)}`} onClick=${() => place(name, ...how)}>${placing.name === name ? t("loading") : t("sandbox.place")}</button><${Curl} method="POST" path="/api/v1/orders" body=${body(...how)} /></div></li>`)}</ul>`}
  <//>`;
}
