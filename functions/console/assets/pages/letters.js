// What consumers have not been able to handle: the evidence, and the two ways to end it.
import { useRef, useState } from "preact/hooks";
import { Actor, Command, Curl, customerPath, go, html, Loading, OrderLink, Page, reasonField, route, Rows, say, short, Time, Trouble, useLoad } from "/console/parts.js";
import { cursorOf, Pager } from "/console/pages/orders.js";
import { call, get, isSupervisor, withQuery } from "/console/session.js";
import { number, since, t } from "/console/text.js";

/** Each works for 20 seconds at most. */
const CALLS_MAX = 1_000;

const CONSUMERS = ["project-orders", "publish-events", "start-fulfilment"];

/** Where the dead letters of a consumer, or of its queue, are listed. */
export const lettersPath = (consumer) => withQuery("/console/letters", { consumer });

/** What it is about, and which events of that. */
function About({ letter: { aggregate_type, aggregate_id, id, first_sequence, last_sequence } }) {
  const events = [first_sequence, last_sequence].filter((sequence, index, all) => sequence && all.indexOf(sequence) === index).map((sequence) => `v${sequence}`);
  return html`${aggregate_type === "order" ? html`<${OrderLink} id=${aggregate_id} />` : aggregate_type === "customer" ? html`<a href=${customerPath(aggregate_id)}><bdi>${short(aggregate_id)}</bdi></a>` : html`<code>${short(id)}</code>`}
    ${events.length > 0 && html` <span class="faint">${events.join("–")}</span>`}`;
}

/** Redrives or discards one, or all with an error; of all, it is said first how many these are. Goes on by itself, call by call, until somebody stops it. */
function Settle({ deed, consumer, letter, error, reload }) {
  const [count, set] = useState("…");
  const [told, tell] = useState("");
  const tally = useRef();
  // What has lined up since this was shown is not given up with it.
  const seen = deed === "discard" && letter?.last_sequence ? { last_sequence: letter.last_sequence } : {};
  const which = letter ? { id: letter.id, ...seen } : { error_type: error };
  const path = `/api/v1/dead-letters/${deed}`;
  const ask = () => {
    tally.current = { calls: 0, done: 0, failed: new Map() };
    tell("");
    return letter || call("POST", path, { body: { consumer, ...which, reason: "dry run", dry_run: true } }).then(({ data }) => set(number(data.matching)), () => {});
  };
  const words = ({ done, failed }) =>
    [t(`letters.${deed}.done`, { count: number(done) }), failed.size && t("letters.failed", { count: number(failed.size), error: [...failed.values()][0] })].filter(Boolean).join(" ");
  // Among what a queue has given up there is one place only: where a call has done none of that, the same fail again.
  const goOn = ({ redriven = 0, discarded = redriven, failed, next }, body) => {
    const all = tally.current;
    all.calls += 1;
    all.done += discarded;
    for (const { id, error_type } of failed) all.failed.set(id, error_type);
    tell(words(all));
    return next && all.calls < CALLS_MAX && (discarded || next !== body.after) ? { ...body, after: next } : undefined;
  };
  const done = ({ more }) => {
    say([words(tally.current), more && t("letters.left")].filter(Boolean).join(" "));
    reload();
  };
  return html`<${Command} danger=${deed === "discard"} keyed=${false} opened=${ask} goOn=${goOn} label=${t(letter ? `letters.${deed}` : `letters.${deed}.all`, { error })} title=${t(letter ? `letters.${deed}.title` : `letters.${deed}.all.title`, { count })}
    doing=${t(`letters.${deed}.do`)} fields=${[{ ...reasonField(), hint: t("letters.reason") }]} request=${({ reason }) => ({ path, body: { consumer, ...which, reason } })} done=${done}>
    <p>${t(deed === "discard" ? `discard:${consumer}` : consumer === "start-fulfilment" ? "letters.redrive.message" : "letters.redrive.then")}</p>${told && html`<p role="status">${told}</p>`}<//>`;
}

const Both = (given) => html`${given.letter?.kind !== "batch" && html`<${Settle} deed="redrive" ...${given} />`}${isSupervisor.value && html`<${Settle} deed="discard" ...${given} />`}`;

function Waiting({ letter, consumer, reload }) {
  const { kind, error_type, error, tries, last_tried_at } = letter;
  return html`<li class="card"><div class="summary"><span>${t(`letter:${kind}`)}</span><span><${About} letter=${letter} /></span><span class="faint">${t("attention.since", { time: since(letter.since) })}</span></div>
    <p><strong>${error_type}</strong> <bdi>${error}</bdi></p>
    <p class="faint">${t("letters.tries", { count: number(tries) })}${last_tried_at && html` · <${Time} at=${last_tried_at} />`}</p>
    ${kind === "batch" && html`<p>${t(`batch:${consumer}`)}</p>`}
    <div class="actions"><${Both} letter=${letter} consumer=${consumer} reload=${reload} /></div></li>`;
}

const Settled = ({ letters }) =>
  html`<${Rows} label=${t("letters.settled")} columns=${[t("column.when"), t("letters.about"), t("letters.error"), t("column.who"), t("column.what")]}>
    ${letters.map((letter) => html`<tr key=${letter.id + letter.settlement.at}><td><${Time} at=${letter.settlement.at} /></td><td><${About} letter=${letter} /></td><td>${letter.error_type}</td>
      <td><${Actor} actor=${letter.settlement.by} /></td><td>${t(`outcome:${letter.settlement.outcome}`)} <q><bdi>${letter.settlement.reason}</bdi></q></td></tr>`)}<//>`;

export function Letters() {
  const form = useRef();
  const { consumer = CONSUMERS[0], settled, after } = route.value.query;
  const path = withQuery("/api/v1/dead-letters", { consumer, settled, after, page_size: "25" });
  // What is still there while another page is loaded is not of this one.
  const { data, problem, reload } = useLoad(async (gone) => ({ path, ...(await get(path, gone)) }), [path]);
  const apply = (event) => {
    event?.preventDefault();
    go(withQuery("/console/letters", Object.fromEntries(new FormData(form.current))));
  };
  const letters = data?.path === path ? data.dead_letters : undefined;
  const waiting = settled || !letters ? [] : letters;
  const errors = Object.entries(Object.groupBy(waiting.filter(({ kind }) => kind !== "batch"), ({ error_type }) => error_type)).filter(([, alike]) => alike.length > 1);
  const at = (changed) => withQuery("/console/letters", { consumer, settled, ...changed });
  return html`<${Page} title=${t("letters")} lead=${t("letters.lead")} tools=${html`<${Curl} path=${path} />`}>
    <form class="filters" ref=${form} onSubmit=${apply} key=${JSON.stringify(route.value.query)}>
      <div class="field grow"><label for="consumer">${t("letters.consumer")}</label><select id="consumer" name="consumer" value=${consumer} onChange=${apply}>${CONSUMERS.map((name) => html`<option value=${name}>${name}</option>`)}</select></div>
      <div class="field"><label for="settled">${t("filter.status")}</label><select id="settled" name="settled" value=${settled ?? ""} onChange=${apply}><option value="">${t("letters.waiting")}</option><option value="true">${t("letters.settled")}</option></select></div>
      <div class="buttons"><button type="submit" class="primary">${t("show")}</button></div>
    </form>
    <p class="faint">${t(`consumer:${consumer}`)}</p>
    <${Trouble} problem=${problem} retry=${reload} />
    ${!letters && !problem && html`<${Loading} />`}
    ${letters?.length === 0 && html`<p class="empty">${t(settled ? "nothing" : "letters.none")}</p>`}
    ${errors.length > 0 && html`<div class="actions">${errors.map(([error]) => html`<${Both} key=${error} error=${error} consumer=${consumer} reload=${reload} />`)}</div>`}
    ${waiting.length > 0 && html`<ul class="waiting">${waiting.map((letter) => html`<${Waiting} key=${letter.id} letter=${letter} consumer=${consumer} reload=${reload} />`)}</ul>`}
    ${settled && letters?.length > 0 && html`<${Settled} letters=${letters} />`}
    ${letters && html`<${Pager} next=${data.next && at({ after: cursorOf(data.next) })} newest=${after && at({})} />`}
  <//>`;
}
