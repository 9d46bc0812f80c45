// Compare: what two journals decided, side by side, and only what differs; one pair opened, field by field.
import { html, useEffect, useRef, useState } from "../dom.js";
import { useJson } from "../store.js";
import { clock, count, Empty, Fact, Failed, go, Mark, plain, Table, Text, to } from "../ui.js";

const AGAIN_MS = 250, PAGE = 100;
const KINDS = { size: "another size", side: "another side", gone: "gone", new: "new", other: "changed otherwise" };
const LEVELS = { size: "warn", side: "bad", gone: "bad", new: "warn", other: "idle" };
const TYPES = { decision: "decisions", validated_decision: "validated decisions", order: "orders", fill: "fills" };
const keyOf = (row) => (row.a ? `a${row.a.pos}` : `b${row.b.pos}`);

/** The answer of `path`, asked for again until both journals were read. */
function useAnswer(path) {
  const [again, set] = useState(0), got = useJson(path, again);
  useEffect(() => set(got.data && !got.data.complete ? AGAIN_MS : 0), [got.data]);
  return got;
}

const Pick = ({ label, name, value, all, onChange, options }) => html`<label>${label} <select name=${name} value=${value || ""} onChange=${(e) => onChange({ [name]: e.target.value })}>${all && html`<option value="">all</option>`}${options.map(([key, word]) => html`<option value=${key}>${plain(word)}</option>`)}</select></label>`;

function Filters({ query, data, onChange }) {
  const named = (names, chosen) => [...new Set([...(names || []), ...(chosen ? [chosen] : [])])].map((name) => [name, name]);
  const journals = named(data.journals);
  return html`<form class="filters all" role="search" aria-label="Filter differences" onSubmit=${(e) => e.preventDefault()}>
    <${Pick} label="From" name="a" value=${data.a.name} options=${journals.filter(([name]) => name !== data.b.name)} onChange=${onChange} />
    <${Pick} label="To" name="b" value=${data.b.name} options=${journals.filter(([name]) => name !== data.a.name)} onChange=${onChange} />
    <${Pick} label="What" name="type" value=${query.type || "decision"} options=${Object.entries(TYPES)} onChange=${onChange} />
    <${Pick} label="Agent" name="agent" value=${query.agent} all options=${named(data.agents, query.agent)} onChange=${onChange} />
    <${Pick} label="Symbol" name="symbol" value=${query.symbol} all options=${named(data.symbols, query.symbol)} onChange=${onChange} />
    <${Pick} label="Difference" name="kind" value=${query.kind} all options=${Object.entries(KINDS)} onChange=${onChange} /></form>`;
}

function Summary({ data, query }) {
  const { counts } = data, total = Object.values(counts).reduce((sum, n) => sum + n, 0), what = TYPES[query.type || "decision"];
  const parts = Object.entries(KINDS).filter(([kind]) => counts[kind]).map(([kind, word]) => html`, <a href=${to("/compare", { ...query, kind, skip: "", at: "" })}>${count(counts[kind])} ${word}</a>`);
  return html`<div class="head"><h1>${count(total)} ${what}: ${count(counts.same)} the same${parts}</h1></div>
    ${data.notes.map((said) => html`<p class="warn head"><${Mark} level="warn" /> <span><${Text}>${said}<//></span></p>`)}`;
}

const said = (one) => (one ? html`<${Text}>${one.said}<//>` : html`<span class="quiet">–</span>`);
const difference = (row) => html`<span class=${LEVELS[row.kind] === "idle" ? "" : LEVELS[row.kind]}><${Mark} level=${LEVELS[row.kind]} /> ${KINDS[row.kind]}</span>${row.fields.length > 0 && html` <span class="quiet"><${Text}>${row.fields.map(([name, one, other]) => `${name} ${one} → ${other}`).join("; ")}<//></span>`}`;

function Row({ row, data }) {
  const title = useRef();
  useEffect(() => title.current?.focus({ preventScroll: true }), [row]);
  const place = (side, one) => one && (side.own ? html`<a class="name" href=${to("/events", { pos: String(one.pos) })}>#${one.pos}</a>, <a class="name" href=${"/why/" + encodeURIComponent("#" + one.pos)}>why</a>` : `#${one.pos}`);
  const cols = [
    { head: "field", w: "30%", cell: ([name]) => html`<${Text}>${name}<//>` },
    { head: html`<${Text}>${data.a.name}<//>`, cell: ([, one]) => html`<span class="wrapped"><${Text}>${one}<//></span>` },
    { head: html`<${Text}>${data.b.name}<//>`, cell: ([, , other]) => html`<span class="wrapped"><${Text}>${other}<//></span>` },
  ];
  return html`<section class="sheet pane" aria-label="One difference"><div class="head"><a class="rest" data-close href=${to("/compare", { ...data.query, at: "" })}>Close</a></div>
    <h1 tabindex="-1" ref=${title}>${row.symbol && html`<${Text}>${row.symbol}<//>: `}${KINDS[row.kind]}</h1>
    <dl class="facts two"><${Fact} term="time">${clock(row.wall_ns, true)}<//><${Fact} term="who"><${Text}>${row.agent || "–"}<//><//><${Fact} term="round">${row.round ? html`<a class="name" href=${"/rounds/" + encodeURIComponent(row.round)}><${Text}>${row.round}<//></a>` : "–"}<//><${Fact} term="id"><${Text}>${row.id}<//><//>
      <${Fact} term=${plain(data.a.name)}>${said(row.a)} ${place(data.a, row.a)}<//><${Fact} term=${plain(data.b.name)}>${said(row.b)} ${place(data.b, row.b)}<//></dl>
    ${row.fields.length > 0 && html`<${Table} label="Fields that differ" cols=${cols} rows=${row.fields} id=${([name]) => name} />`}
    ${row.more > 0 && html`<p class="quiet">and ${count(row.more)} more fields.</p>`}
    ${!row.a && html`<p class="quiet"><${Text}>${data.a.name}<//> has nothing of the kind.</p>`}${!row.b && html`<p class="quiet"><${Text}>${data.b.name}<//> has nothing of the kind.</p>`}</section>`;
}

function Pages({ query, data, skip }) {
  if (data.total <= PAGE && !skip) return null;
  const turn = (at, word) => html`<a href=${to("/compare", { ...query, skip: at ? String(at) : "", at: "" })}>${word}</a>`;
  return html`<p class="empty row">${count(Math.min(skip + 1, data.total))} to ${count(Math.min(skip + PAGE, data.total))} of ${count(data.total)} ${skip > 0 && turn(Math.max(0, skip - PAGE), "Before")} ${data.next != null && turn(data.next, "Next")}</p>`;
}

function Reading({ data }) {
  const parts = [data.a, data.b].map((one) => `${plain(one.name)} to ${count(one.read)} of ${count(one.head)}`);
  return html`<p class="empty" role="status">Reading ${parts.join(", ")} events …</p>`;
}

export default function Compare({ query }) {
  const { at, ...rest } = query, got = useAnswer(to("/api/compare", rest)), data = got.data && { ...got.data, query: rest }, list = useRef();
  useEffect(() => { if (list.current) list.current.scrollTop = 0; }, [query.skip]);
  if (!data) return got.error ? html`<${Failed} error=${got.error} />` : html`<${Empty}>Comparing …<//>`;
  if (!data.complete) return html`<${Reading} data=${data} />`;
  const change = (changed) => go(to("/compare", { ...rest, a: data.a.name, b: data.b.name, skip: "", ...changed }));
  const chosen = at && data.rows.find((row) => keyOf(row) === at), open = (row) => to("/compare", { ...rest, at: keyOf(row) });
  const cols = [
    { head: "time", w: "104px", cell: (r) => html`<time title=${clock(r.wall_ns, true)}>${clock(r.wall_ns, true).split(" ").pop()}</time>` },
    { head: "symbol", w: "72px", cell: (r) => html`<a class="name" href=${open(r)}><${Text}>${r.symbol || "–"}<//></a>` },
    { head: "who", w: "104px", wide: chosen ? "none" : "roomy", cell: (r) => html`<${Text}>${r.agent}<//>` },
    { head: html`<${Text}>${data.a.name}<//>`, title: plain(data.a.name), w: "17%", cell: (r) => said(r.a) },
    { head: html`<${Text}>${data.b.name}<//>`, title: plain(data.b.name), w: "17%", cell: (r) => html`<span class="quiet">→</span> ${said(r.b)}` },
    { head: "what differs", cell: difference },
  ];
  const none = data.counts.same && data.total === 0 && !query.kind ? "Nothing differs." : "Nothing of this kind differs.";
  return html`<div class=${"dead compare" + (chosen ? " open" : "")}><section class="pane" ref=${list} tabindex="0" aria-label="Differences">
      <${Filters} query=${rest} data=${data} onChange=${change} /><${Summary} data=${data} query=${rest} />
      <${Table} stack label="What differs" cols=${cols} rows=${data.rows} id=${keyOf} empty=${none} row=${(r) => ({ class: "opens", "aria-selected": keyOf(r) === at, onClick: (e) => e.target.closest("a") || go(open(r)) })} />
      <${Pages} query=${rest} data=${data} skip=${Number(query.skip) || 0} /></section>
    ${chosen && html`<${Row} row=${chosen} data=${data} key=${at} />`}</div>`;
}
