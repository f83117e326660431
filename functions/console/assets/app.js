// The frame around the pages: who is signed in, where one can go, and how it looks.
import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { follow, go, html, Page, route, said } from "/console/parts.js";
import { Attention, Count } from "/console/pages/attention.js";
import { Catalogue } from "/console/pages/catalogue.js";
import { Customer, Customers } from "/console/pages/customers.js";
import { Events } from "/console/pages/events.js";
import { Letters } from "/console/pages/letters.js";
import { Now } from "/console/pages/now.js";
import { Order } from "/console/pages/order.js";
import { Orders, search, UUID } from "/console/pages/orders.js";
import { Sandbox } from "/console/pages/sandbox.js";
import { begin, claims, config, failure, isStaff, isSupervisor, signIn, signOut } from "/console/session.js";
import { language, speak, t } from "/console/text.js";

const PAGES = { "": Now, orders: Orders, attention: Attention, letters: Letters, customers: Customers, catalogue: Catalogue, events: Events, sandbox: Sandbox };
const ONE = { orders: Order, customers: Customer };
const THEMES = ["auto", "light", "dark"];
const THEME = "console.theme";

const theme = signal(THEMES.includes(localStorage.getItem(THEME)) ? localStorage.getItem(THEME) : "auto");

function Content() {
  const { path: [name, id] } = route.value;
  const One = ONE[name];
  // What is no id could lead to another path of the API, which would be asked with the token of whoever has followed a link.
  if (id && One && (One !== Order || UUID.test(id))) return html`<${One} key=${id} id=${id} />`;
  const Shown = PAGES[name];
  if (!Shown || id || (name === "sandbox" && !config.value.sandbox)) return html`<${Page} title=${t("no.page")} />`;
  return html`<${Shown} key=${name} />`;
}

function Menu() {
  const names = Object.keys(PAGES).filter((name) => name !== "sandbox" || config.value.sandbox);
  const { path: [current] } = route.value;
  return html`<nav aria-label=${t("nav")} class="menu">
    ${names.map((name) => html`<a key=${name} href=${name ? `/console/${name}` : "/console"} aria-current=${current === name ? "page" : undefined}>${t(name || "now")}${name === "attention" && html`<${Count} />`}</a>`)}
  </nav>`;
}

function Find() {
  const input = useRef();
  useEffect(() => {
    const key = (event) => {
      const typing = event.target.closest?.("input, textarea, select, dialog");
      if ((event.key === "/" && !typing) || (event.key === "k" && (event.metaKey || event.ctrlKey))) {
        event.preventDefault();
        input.current.focus();
      }
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  const find = (event) => {
    event.preventDefault();
    if (input.current.value.trim()) go(search(input.current.value));
    input.current.value = "";
    input.current.blur();
  };
  return html`<form role="search" aria-label=${t("find")} class="find" onSubmit=${find}><input ref=${input} type="search" maxlength="100" aria-label=${t("find")} placeholder=${t("find.hint")} /></form>`;
}

function Looks() {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
  const change = () => {
    localStorage.setItem(THEME, next);
    theme.value = next;
  };
  return html`<button type="button" class="quiet" onClick=${change} aria-label=${t("theme", { name: t(`theme.${theme.value}`) })} title=${t("theme", { name: t(`theme.${theme.value}`) })}>${{ auto: "◐", light: "☀", dark: "☾" }[theme.value]}</button>
    <button type="button" class="quiet" lang=${language.value === "zh" ? "en" : "zh"} onClick=${() => speak(language.value === "zh" ? "en" : "zh")}>${t("language")}</button>`;
}

function Outside() {
  const nowhere = !config.value?.sign_in.client_id;
  const stranger = claims.value;
  useEffect(() => void (document.title = t("title")), [language.value]);
  return html`<main class="outside" id="content"><img src="/console/icon.svg" alt="" width="48" height="48" />
    <h1>${stranger ? t("not-staff") : t("title")}</h1>
    <p>${stranger ? t("not-staff.lead") : t("sign-in.lead")}</p>
    ${failure.value && html`<p class="trouble" role="alert">${t(failure.value)}</p>`}
    ${stranger ? html`<button type="button" class="primary" onClick=${signOut}>${t("sign-out")}</button>` : config.value && (nowhere ? html`<p class="trouble">${t("sign-in.nowhere")}</p>` : html`<button type="button" class="primary" onClick=${signIn}>${t("sign-in")}</button>`)}
    <p class="faint">${config.value && t("stage", { name: config.value.stage })}</p><p><${Looks} /></p></main>`;
}

function App() {
  useEffect(() => {
    document.documentElement.lang = language.value;
    document.documentElement.dataset.theme = theme.value;
  }, [language.value, theme.value]);
  // Whoever follows a link with the keyboard goes on at the new page's heading.
  const path = route.value.path.join("/");
  const first = useRef(path);
  useEffect(() => {
    if (first.current !== path) document.getElementById("page")?.focus({ preventScroll: true });
    first.current = path;
  }, [path]);
  if (!isStaff.value) return html`<${Outside} />`;
  return html`<a class="skip" href="#content">${t("skip")}</a>
    <header class="bar"><a class="brand" href="/console"><img src="/console/icon.svg" alt="" width="24" height="24" /><span>${t("title")}</span><small class=${`stage ${config.value.stage}`}>${config.value.stage}</small></a>
      <${Find} /><div class="who"><${Looks} /><span class="faint">${t(isSupervisor.value ? "supervisor" : "staff")}</span><button type="button" class="quiet" onClick=${signOut}>${t("sign-out")}</button></div></header>
    <${Menu} />
    <main id="content"><${Content} /></main>
    <div class="said" role="status" aria-live="polite">${said.value && html`<p>${said.value}</p>`}</div>`;
}

addEventListener("click", follow);
await begin().catch(() => (failure.value = "sign-in.unreachable"));
go(location.pathname + location.search, { replace: true }); // where the sign-in began
document.getElementById("app").replaceChildren();
render(html`<${App} />`, document.getElementById("app"));
