// Customers: the API finds them by their orders, and knows each by the id.
import { Command, Curl, customerPath, customerSegment, go, html, Loading, nameOf, OrderRows, Page, Rows, route, say, Trouble, useGet } from "/console/parts.js";
import { withQuery } from "/console/session.js";
import { Pager } from "/console/pages/orders.js";
import { number, t } from "/console/text.js";

export function Customers() {
  const { q = "" } = route.value.query;
  const { data, problem, reload } = useGet(q && withQuery("/api/v1/orders/search", { q, page_size: "100" }));
  const found = [...new Map((data?.orders ?? []).map(({ customer }) => [customer.id, customer])).values()];
  const find = (event) => {
    event.preventDefault();
    const asked = new FormData(event.target).get("q").trim();
    // No name has dashes and digits like that, so it is the id of somebody who may have no order.
    go(/^[0-9a-f-]{32,}$/i.test(asked) || asked.includes("|") ? customerPath(asked) : withQuery("/console/customers", { q: asked }));
  };
  return html`<${Page} title=${t("customers")} lead=${t("customers.lead")}>
    <form class="filters" role="search" onSubmit=${find}><div class="field grow"><label for="q">${t("customers.search")}</label><input id="q" name="q" type="search" value=${q} maxlength="255" required /></div><div class="buttons"><button type="submit" class="primary">${t("show")}</button></div></form>
    <p class="faint">${t("customers.by-orders")}</p>
    <${Trouble} problem=${problem} retry=${reload} />
    ${q && !data && !problem && html`<${Loading} />`}
    ${data && (found.length ? html`<${Rows} label=${t("customers")} columns=${[t("customer"), t("customer.email"), t("product.id")]}>${found.map((customer) => html`<tr key=${customer.id}><td><a href=${customerPath(customer.id)}><bdi>${nameOf(customer) || t("nameless")}</bdi></a></td><td><bdi>${customer.email}</bdi></td><td><code>${customer.id}</code></td></tr>`)}<//>` : html`<p class="empty">${t("nothing")}</p>`)}
  <//>`;
}

export function Customer({ id }) {
  const { page = "1" } = route.value.query;
  const segment = customerSegment(id);
  const profile = useGet(`/api/v1/customers/${segment}`);
  const path = `/api/v1/orders/customer/${segment}?page=${encodeURIComponent(page)}&page_size=25`;
  const { data, problem, reload } = useGet(path);
  const unknown = profile.problem?.status === 404;
  const { first_name = "", last_name = "", email = "", email_verified } = profile.data ?? {};
  const at = (page) => withQuery(customerPath(id), { page });
  const fields = [
    { name: "first_name", label: t("customer.first"), value: first_name, required: true, max: 100 },
    { name: "last_name", label: t("customer.last"), value: last_name ?? "", max: 100 },
    { name: "email", label: t("customer.email"), value: email, required: true, max: 254 },
  ];
  const request = (typed) => ({ method: "PUT", path: `/api/v1/customers/${segment}`, body: { ...typed, last_name: typed.last_name.trim() ? typed.last_name : null } });
  const done = () => {
    say(t("product.edit.do"));
    profile.reload();
    reload();
  };
  return html`<${Page} title=${nameOf(profile.data ?? {}) || t("customer")} tools=${html`<${Curl} path=${`/api/v1/customers/${segment}`} />`}>
    <p class="summary"><code class="faint">${id}</code></p>
    <section class="card facts"><div><h2>${t("customer.email")}</h2><p>${unknown ? t("customer.none") : html`<bdi>${email}</bdi> <span class="faint">${email && t(email_verified ? "customer.verified" : "customer.unverified")}</span>`}</p></div>
      <div class="actions">${(profile.data || unknown) && html`<${Command} key=${profile.data?.version} label=${t("customer.edit")} title=${t("customer.edit.title")} doing=${t("customer.edit.do")} keyed=${false} fields=${fields} request=${request} done=${done}><p>${t("customer.edit.then")}</p><//>`}</div></section>
    <h2>${t("customer.orders")} ${data && html`<small>${number(data.total_count)}</small>`}</h2>
    <${Trouble} problem=${problem ?? (unknown ? null : profile.problem)} retry=${reload} />
    ${!data && !problem && html`<${Loading} />`}
    ${data && (data.orders.length ? html`<${OrderRows} orders=${data.orders} customer=${false} /><${Pager} page=${data.page} pages=${data.total_pages} next=${data.next && at(data.page + 1)} previous=${data.previous && at(data.page - 1)} />` : html`<p class="empty">${t("nothing")}</p>`)}
  <//>`;
}
