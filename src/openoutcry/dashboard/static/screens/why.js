// Why: what led to an order, a round or any other event; the sentence first, then the chain, then who voted and who did not.
import { html, useEffect, useRef, useState } from "../dom.js";
import { useJson } from "../store.js";
import { clock, count, Empty, Failed, Fact, go, kind, Mark, plain, Table, Text, to } from "../ui.js";

const AGAIN_MS = 2000;
const address = (ref) => "/why/" + encodeURIComponent(ref);
/** A measured time, to a tenth of a millisecond. */
const since = (ns) => (ns < 1e10 ? `${(ns / 1e6).toFixed(1)} ms` : `${count(ns / 1e9)} s`);
const figure = (n) => (n == null ? "–" : n.toLocaleString("en", { maximumFractionDigits: 4 }));

/** The answer of `path`; one that is not there yet, as the index is being made, is asked for again. */
function useAnswer(path) {
  const [again, set] = useState(0), got = useJson(path, again);
  useEffect(() => set(got.error?.status === 503 ? AGAIN_MS : 0), [got.error]);
  return got;
}

function Search({ given }) {
  const submit = (event) => {
    event.preventDefault();
    const ref = new FormData(event.target).get("ref").trim();
    if (ref) go(address(ref));
  };
  return html`<form class="filters all" role="search" key=${given} onSubmit=${submit}><label>order, execution, decision, round, event, #position or symbol <input name="ref" data-search defaultValue=${given || ""} autocomplete="off" /></label><button>Explain</button></form>`;
}

const place = (s) => (s.desk == null ? html`<a class="name" href=${to("/events", { pos: String(s.pos) })}>#${s.pos}</a>` : html`<span title="of desk ${plain(s.desk)}">#${s.pos} <${Text}>${s.desk}<//></span>`);
const differs = (s) => s.time_ns != null && Math.abs(s.time_ns - s.wall_ns) > 1e9;
const what = (s) => html`<${Text}>${s.said}<//>${s.remark && html` <b><${Text}>${s.remark}<//></b>`}${s.slowest && html` <b class="warn"><${Mark} level="warn" /> slowest step</b>`}`;

function Steps({ steps, label, first }) {
  const own = steps.some(differs), cols = [
    { head: "when", w: "104px", cell: (s) => html`<time title=${`admitted ${clock(s.wall_ns, true)}`}>${first && s === steps[0] ? clock(s.wall_ns, true).split(" ").pop() : `+ ${since(s.after_ns)}`}</time>` },
    { head: "who", w: "136px", cell: (s) => html`<${Text}>${s.source || "–"}<//>` },
    { head: "where", w: "88px", cell: place },
    ...(own ? [{ head: "its own time", w: "168px", wide: "wide", cell: (s) => html`<time>${s.time_ns ? clock(s.time_ns) : "–"}</time>` }] : []),
    { head: "what", cell: (s) => html`<span style=${s.depth > 1 ? { paddingLeft: `${Math.min(s.depth - 1, 8) * 12}px` } : null}>${what(s)}</span>` },
  ];
  return html`<${Table} stack label=${label} cols=${cols} rows=${steps} id=${(s) => `${s.desk}:${s.pos}`} empty="Nothing." />`;
}

function Round({ round }) {
  const level = round.valid === false ? "bad" : round.valid ? "ok" : "idle";
  const ended = `${round.status}${round.took_ns == null ? "" : ` after ${since(round.took_ns)}`}, ${round.answered} of ${round.asked} answered (${round.quorum} needed)${round.valid == null ? "" : round.valid ? ", valid" : ", not valid"}`;
  return html`<section aria-label="Round"><h2>Round ${round.desk == null ? html`<a class="name" href=${"/rounds/" + encodeURIComponent(round.id)}><${Text}>${round.id}<//></a>` : html`<${Text}>${round.id}<//> of desk <${Text}>${round.desk}<//>`}</h2>
    <p><${Mark} level=${level} /> ${plain(ended)}</p>
    <dl class="facts sides">${[...round.sides, ...round.absent].map((side) => html`<${Fact} term=${`${side.name} (${count(side.count)})`}><${Text}>${side.agents.join(", ")}<//>${side.count > side.agents.length && ` and ${count(side.count - side.agents.length)} more`}<//>`)}</dl></section>`;
}

function Held({ fills, of }) {
  const cols = [
    { head: "when", w: "168px", wide: "wide", cell: (f) => html`<time>${clock(f.time_ns || f.wall_ns)}</time>` },
    { head: "traded", w: "88px", num: true, cell: (f) => `${f.quantity >= 0 ? "+" : ""}${figure(f.quantity)}` },
    { head: "at", w: "88px", wide: "wide", num: true, cell: (f) => figure(f.price) },
    { head: "held after", w: "88px", num: true, cell: (f) => figure(f.held) },
    { head: "order", cell: (f) => html`<a class="name" href=${address(f.order)}><${Text}>${f.order}<//></a>` },
  ];
  return html`<h2>Since it was last flat</h2>${of > fills.length && html`<p class="quiet">The last ${fills.length} of ${count(of)} fills.</p>`}<${Table} label="Fills" cols=${cols} rows=${fills} id=${(f) => f.pos} />`;
}

function Copy({ text }) {
  const [said, set] = useState("");
  const copy = () => navigator.clipboard.writeText(text).then(() => set("copied"), (e) => set(e.message));
  return html`<button class="small" onClick=${copy}>Copy as text</button>${said && html` <small role="status">${plain(said)}</small>`}`;
}

function Came({ of }) {
  const got = useAnswer(to("/api/why", { ref: of, forward: "1" }));
  return html`<h2>What came of it</h2><${Failed} error=${got.error} />${got.data ? (got.data.steps.length ? html`<${Steps} steps=${got.data.steps} label="What came of it" />` : html`<${Empty}>Nothing that the journal has names it as a cause.<//>`) : !got.error && html`<${Empty}>Looking …<//>`}`;
}

function Explained({ of }) {
  const got = useAnswer(to("/api/why", { ref: of })), found = got.data, title = useRef();
  useEffect(() => title.current?.focus({ preventScroll: true }), [!found]);
  if (!found) return got.error ? html`<${Failed} error=${got.error} />` : html`<${Empty}>Looking …<//>`;
  return html`<h1 tabindex="-1" ref=${title}><${Text}>${found.title}<//></h1>
    ${found.summary.length > 0 && found.summary[0] && html`<p><${Text}>${found.summary.join(". ")}<//></p>`}
    ${found.unknown.map((said) => html`<p class="warn"><${Mark} level="warn" /> Not known: <${Text}>${said}<//></p>`)}
    <h2>What led to it</h2><${Steps} steps=${found.chain} label="What led to it" first />
    ${found.held.length > 0 && html`<${Held} fills=${found.held} of=${found.fills} />`}
    ${found.rounds.map((round) => html`<${Round} round=${round} key=${round.id} />`)}
    ${found.aside.length > 0 && html`<details><summary>Also named as causes (${found.aside.length})</summary><${Steps} steps=${found.aside} label="Also named as causes" /></details>`}
    <${Came} of=${of} key=${of} />
    <p class="row"><${Copy} text=${found.text} /></p>`;
}

export default function Why({ args }) {
  const of = args.join("/");
  return html`<article class="sheet why" aria-label="Why"><${Search} given=${of} />${of ? html`<${Explained} of=${of} key=${of} />` : html`<${Empty}>Name something that happened, and see what led to it: an order, an execution, a decision, a round, an event or its #position, or a symbol for what is held.<//>`}</article>`;
}
