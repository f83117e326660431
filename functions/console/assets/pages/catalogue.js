// The catalogue: what can be ordered, for how much, and how many there are.
import { useState } from "preact/hooks";
import { Command, Curl, html, Loading, Money, Page, reasonField, Rows, route, say, Trouble, useGet } from "/console/parts.js";
import { withQuery } from "/console/session.js";
import { cursorOf, Pager } from "/console/pages/orders.js";
import { minorUnits, number, t, typedMoney } from "/console/text.js";

const CURRENCY = /^[A-Z]{3}$/;

/** The fields of a product, and the request that puts it. */
function put({ id, name = "", price }) {
  const wrongPrice = (typed, { currency }) => !(minorUnits(typed, currency) >= 0) && t("amount.wrong", { currency });
  const fields = [
    { name: "name", label: t("product.name"), value: name, required: true, max: 200 },
    { name: "price", label: t("product.price"), value: price ? typedMoney(price) : "", required: true, inputmode: "decimal", check: wrongPrice },
    { name: "currency", label: t("product.currency"), value: price?.currency ?? "CNY", required: true, max: 3, check: (typed) => !CURRENCY.test(typed) && "ISO 4217" },
  ];
  const request = (typed) => ({
    method: "PUT",
    path: `/api/v1/products/${encodeURIComponent(id ?? typed.id)}`,
    body: { name: typed.name, price: { amount: minorUnits(typed.price, typed.currency), currency: typed.currency }, ...(typed.stock ? { stock: Number(typed.stock) } : {}) },
  });
  return { fields, request };
}

const wholeNumber = (least) => (typed) => !(/^-?\d{1,9}$/.test(typed) && Number(typed) >= least) && t("product.adjust.by");

function New({ done }) {
  const { fields, request } = put({});
  const id = { name: "id", label: t("product.id"), required: true, max: 64, check: (typed) => !/^[A-Za-z0-9._-]{1,64}$/.test(typed) && "A-Z a-z 0-9 . _ -" };
  const stock = { name: "stock", label: t("product.stock"), value: "0", required: true, inputmode: "numeric", check: wholeNumber(0) };
  return html`<${Command} label=${t("product.new")} title=${t("product.new.title")} doing=${t("product.edit.do")} keyed=${false} fields=${[id, ...fields, stock]} request=${request} done=${done}><p>${t("product.edit.then")}</p><//>`;
}

function Product({ product, reload }) {
  const path = `/api/v1/products/${encodeURIComponent(product.id)}/stock-adjustments`;
  const { fields, request } = put(product);
  const by = { name: "by", label: t("product.adjust.by"), required: true, inputmode: "numeric", check: (typed) => wholeNumber(-1e9)(typed) || (Number(typed) === 0 && t("product.adjust.by")) };
  const adjusted = ({ stock }) => {
    say(t("product.adjusted", { stock: number(stock) }));
    reload();
  };
  return html`<tr><td><bdi>${product.name}</bdi><br /><code class="faint">${product.id}</code></td><td class="number"><${Money} of=${product.price} /></td><td class="number" data-label=${t("product.stock")}>${number(product.stock)}</td>
    <td><div class="actions"><${Command} label=${t("product.edit")} title=${t("product.edit.title", { name: product.name })} doing=${t("product.edit.do")} keyed=${false} fields=${fields} request=${request} done=${reload}><p>${t("product.edit.then")}</p><//>
    <${Command} label=${t("product.adjust")} title=${t("product.adjust.title", { name: product.name })} doing=${t("product.adjust.do")} fields=${[by, reasonField()]} request=${({ by, reason }) => ({ path, body: { by: Number(by), reason } })} done=${adjusted}><p>${t("product.adjust.then", { stock: number(product.stock) })}</p><//></div></td></tr>`;
}

export function Catalogue() {
  const { after } = route.value.query;
  const [filter, set] = useState("");
  const path = withQuery("/api/v1/products", { after, page_size: "50" });
  const { data, problem, reload } = useGet(path);
  const shown = data?.products.filter(({ id, name }) => `${id} ${name}`.toLowerCase().includes(filter.toLowerCase())) ?? [];
  return html`<${Page} title=${t("catalogue")} lead=${t("catalogue.lead")} tools=${html`<${New} done=${reload} /><${Curl} path=${path} />`}>
    <div class="filters"><div class="field grow"><label for="filter">${t("catalogue.filter")}</label><input id="filter" type="search" value=${filter} onInput=${({ target }) => set(target.value)} /></div></div>
    ${problem?.type === "not-listable" ? html`<p class="empty">${t("product.not-listable")}</p>` : html`<${Trouble} problem=${problem} retry=${reload} />`}
    ${!data && !problem && html`<${Loading} />`}
    ${data && (shown.length ? html`<${Rows} label=${t("catalogue")} columns=${[t("product.name"), [t("product.price")], [t("product.stock")], t("column.do")]}>${shown.map((product) => html`<${Product} key=${product.id} product=${product} reload=${reload} />`)}<//>` : html`<p class="empty">${t("nothing")}</p>`)}
    ${data && html`<${Pager} next=${data.next && withQuery("/console/catalogue", { after: cursorOf(data.next) })} newest=${after && "/console/catalogue"} />`}
  <//>`;
}
