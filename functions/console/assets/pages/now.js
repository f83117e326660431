// Are orders getting through? Counts by the hour come from the read model; by status, of times and of dead letters from the service's own figures.
import { useEffect, useRef } from "preact/hooks";
import { CustomerLink, html, Loading, OrderLink, Page, Rows, Status, Time, Trouble, useGet, useLoad } from "/console/parts.js";
import { waiting } from "/console/pages/attention.js";
import { lettersPath } from "/console/pages/letters.js";
import { get } from "/console/session.js";
import { duration, language, moment, number, since, t } from "/console/text.js";

const MINUTE = 60_000; // a look at the figures is some forty calls of AWS
const HALF_AN_HOUR = 1_800; // seconds, so that the first bar and the last one are whole
const STATUSES = ["created", "reserved", "paid", "shipped", "confirmed", "cancelling", "cancelled", "rejected", "needs_attention"];
const KEPT = 60; // looks, so that times are those of the last hour while the page is open

/** Prometheus' text, as far as it is asked for: name → [labels, value]. */
function figures(text) {
  const found = {};
  for (const [, name, labels = "", value] of text.matchAll(/^order_service_(\w+)(?:\{(.*)\})? (\S+)$/gm)) {
    const named = Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, label, value]) => [label, value]));
    (found[name] ??= []).push([named, Number(value)]);
  }
  return found;
}

const count = (figures, histogram) => figures[`${histogram}_count`]?.[0]?.[1] ?? 0;

/** Within which bound of a histogram 95 of a hundred are, of what came between two looks. */
function within(histogram, now, before = {}) {
  const earlier = new Map((before[`${histogram}_bucket`] ?? []).map(([{ le }, value]) => [le, value]));
  const parts = (now[`${histogram}_bucket`] ?? []).map(([{ le }, value]) => [Number(le), value - (earlier.get(le) ?? 0)]).filter(([bound]) => Number.isFinite(bound));
  const total = count(now, histogram) - count(before, histogram);
  const [bound, inside] = parts.find(([, value]) => value >= 0.95 * total) ?? parts.at(-1) ?? [0, 0];
  return { total, bound, share: total ? inside / total : 0 };
}

function Times({ histogram, looks }) {
  const [now, before] = [looks.at(-1), looks[0]];
  const recent = within(histogram, now.figures, before.figures);
  const some = recent.total > 0 ? recent : within(histogram, now.figures);
  if (!some.total) return html`<p class="big">–</p><p class="faint">${t("now.none")}</p>`;
  const share = new Intl.NumberFormat(language.value, { style: "percent" }).format(some.share);
  const of = recent.total > 0 ? t("now.since.minutes", { count: number(some.total), time: duration((now.at - before.at) / 1000) }) : t("now.since.deployed", { count: number(some.total) });
  return html`<p class="big">${duration(some.bound)}</p><p>${t(some.share >= 0.95 ? "now.within" : "now.beyond", { share, time: duration(some.bound) })}</p><p class="faint">${of}</p>`;
}

/** uPlot comes with the first chart, and draws on a canvas: so it is told the colours, and the table says the same in words. */
let uplot;
const charts = () =>
  (uplot ??= new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: "/console/vendor/uplot-1.6.32.js", onload: () => resolve(window.uPlot), onerror: reject });
    document.head.append(script);
  }));

function ByHour({ periods }) {
  const box = useRef();
  const refused = (period) => period.rejected + period.cancelled;
  useEffect(() => {
    const frame = box.current;
    let chart, gone;
    const color = (name) => getComputedStyle(frame.querySelector(`.${name}`)).color;
    const draw = async () => {
      const uPlot = await charts();
      if (gone) return;
      chart?.destroy();
      const axis = { stroke: color("ink-faint"), grid: { stroke: color("ink-line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
      const bars = uPlot.paths.bars({ size: [0.7, 28], radius: 0.15 });
      const series = (name, label) => ({ label, fill: color(name), stroke: color(name), width: 0, points: { show: false }, paths: bars });
      chart = new uPlot(
        {
          width: frame.clientWidth,
          height: 220,
          cursor: { show: false },
          legend: { show: false },
          scales: { x: { range: (_, first, last) => [first - HALF_AN_HOUR, last + HALF_AN_HOUR] }, y: { range: (_, __, most) => [0, Math.max(4, most * 1.1)] } },
          axes: [{ ...axis, size: 28, values: (_, times) => times.map((time) => new Intl.DateTimeFormat(language.value, { hour: "numeric" }).format(time * 1000)) }, { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000] }],
          series: [{}, series("ink-accent", t("now.placed")), series("ink-bad", t("now.refused"))],
        },
        [periods.map(({ from }) => new Date(from) / 1000), periods.map(({ placed }) => placed), periods.map(refused)],
        frame.querySelector(".canvas"),
      );
    };
    draw();
    const looks = [matchMedia("(prefers-color-scheme: dark)"), matchMedia("(max-width: 60rem)")];
    const resized = new ResizeObserver(() => chart?.setSize({ width: frame.clientWidth, height: 220 }));
    const rethemed = new MutationObserver(draw);
    looks.forEach((look) => look.addEventListener("change", draw));
    resized.observe(frame);
    rethemed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      gone = true;
      looks.forEach((look) => look.removeEventListener("change", draw));
      resized.disconnect();
      rethemed.disconnect();
      chart?.destroy();
    };
  }, [periods, language.value]);
  return html`<div class="chart" ref=${box}>
    <p class="legend"><span class="ink-accent">■</span> ${t("now.placed")} <span class="ink-bad">■</span> ${t("now.refused")}<span class="ink-faint"></span><span class="ink-line"></span></p>
    <div class="canvas" aria-hidden="true"></div>
    <details><summary>${t("now.table")}</summary>
      <${Rows} label=${t("now.by-hour")} columns=${[t("now.hour"), [t("now.placed")], [t("now.refused")]]}>
        ${periods.map((period) => html`<tr key=${period.from}><td><${Time} at=${period.from} /></td><td class="number">${number(period.placed)}</td><td class="number">${number(refused(period))}</td></tr>`)}
      <//></details>
  </div>`;
}

async function look(gone) {
  const [text, health] = await Promise.all([get("/metrics", gone), get("/health", gone).catch((problem) => (problem.body?.components ? problem.body : null))]);
  return { figures: figures(text), health, at: Date.now() };
}

export function Now() {
  const looks = useRef([]);
  const seen = useLoad(async (gone) => (looks.current = [...looks.current, await look(gone)].slice(-KEPT)), [], MINUTE);
  const stats = useGet("/api/v1/stats?by=hour", MINUTE);
  const newest = seen.data?.at(-1);
  const gauge = (name) => newest.figures[name] ?? [];
  const orders = newest && Object.fromEntries(gauge("orders").map(([{ status }, value]) => [status, value]));
  // Of a queue, and of the streams that its consumer has parked, in one.
  const letters = newest && Object.entries(Object.groupBy([...gauge("dead_letters"), ...gauge("parked_streams")], ([{ queue, consumer }]) => queue ?? consumer))
    .map(([consumer, counts]) => [consumer, counts.reduce((sum, [, value]) => sum + value, 0)]);
  const dead = letters?.reduce((sum, [, value]) => sum + value, 0);
  const missing = newest && gauge("scrape_errors").flatMap(([{ source }, value]) => (value ? [source] : []));
  const oldest = waiting.value?.slice(0, 5) ?? [];
  const state = { up: "good", degraded: "degraded", down: "down" }[newest?.health?.status] ?? "down";
  return html`<${Page} title=${t("now")} lead=${t("now.lead")}>
    <${Trouble} problem=${seen.problem ?? stats.problem} retry=${seen.reload} />
    ${!newest && !seen.problem && html`<${Loading} />`}
    ${newest && html`
      <p class=${`verdict ${state}`} role="status"><strong>${t(`now.${state}`)}</strong>
        ${orders?.needs_attention > 0 && html`<a href="/console/attention">${t("now.stuck", { count: number(orders.needs_attention) })}</a>`}
        ${dead > 0 && html`<a href=${lettersPath(letters.find(([, value]) => value)[0])}>${t("now.dead", { count: number(dead) })}</a>`}</p>
      ${missing.length > 0 && html`<p class="faint">${t("now.partly", { names: missing.join(", ") })}</p>`}
      <section aria-label=${t("now.by-status")} class="tiles">
        ${STATUSES.map((status) => html`<a key=${status} class=${`tile ${status}`} href=${status === "needs_attention" ? "/console/attention" : `/console/orders?status=${status}`}><${Status} of=${status} /><span class="big">${number(orders?.[status] ?? 0)}</span></a>`)}
      </section>`}
    <div class="columns three">
      <section class="card wide"><h2>${t("now.by-hour")}</h2>${stats.data ? html`<${ByHour} periods=${stats.data.periods} />` : !stats.problem && html`<${Loading} />`}</section>
      ${newest && html`
        <section class="card"><h2>${t("now.confirm")}</h2><${Times} histogram="order_confirmation_seconds" looks=${seen.data} /></section>
        <section class="card"><h2>${t("now.lag")}</h2><${Times} histogram="projection_lag_seconds" looks=${seen.data} /></section>
        <section class="card"><h2>${t("letters")}</h2>
          ${dead ? html`<dl class="pairs">${letters.filter(([, value]) => value).map(([consumer, value]) => html`<dt><a href=${lettersPath(consumer)}>${consumer}</a></dt><dd>${number(value)}<p class="faint">${t(`consumer:${consumer}`)}</p></dd>`)}</dl>` : html`<p class="big">0</p><p class="faint">${t("letters.none")}</p>`}
        </section>
        ${oldest.length > 0 && html`<section class="card wide"><h2>${t("now.oldest")}</h2><ul class="plain">
          ${oldest.map((order) => html`<li key=${order.id}><${OrderLink} id=${order.id} /> <${CustomerLink} customer=${order.customer} /> <code>${order.attention?.step}</code> <span class="faint">${t("attention.since", { time: since(order.updated_at) })}</span></li>`)}</ul></section>`}
        <section class="card wide"><h2>${t("now.components")}</h2><ul class="components">
          ${newest.health?.components.map(({ name, status, response_time_ms }) => html`<li key=${name} class=${status}><span>${name}</span> <span class="faint">${status === "up" ? duration(response_time_ms / 1000) : status}</span></li>`)}
          ${newest.health?.providers.map(({ port, kind, status }) => html`<li key=${port} class=${status}><span>${port}</span> <span class="faint">${kind}</span></li>`)}</ul></section>`}
    </div>
    ${newest && html`<p class="faint below">${t("now.at", { time: moment(newest.at) })}</p>`}
  <//>`;
}
