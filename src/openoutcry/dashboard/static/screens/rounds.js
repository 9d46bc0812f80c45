// Rounds: a row a round and a column an agent, so that who is always late or missing is a column one sees.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../dom.js";
import { store, useJson, useStore } from "../store.js";
import { clock, count, Empty, Fact, Failed, go, Mark, plain, span, Text, to } from "../ui.js";

const AGAIN_MS = 2000, EVERY_MS = 1000, LIMIT = 60, COLUMN_PX = 30, COLUMN_MIN_PX = 17, FIXED_PX = 252, ROOMY_PX = 204;
const STATUSES = { complete: "complete", quorate: "quorate", expired: "expired", empty: "empty", died: "not ended" };
const MADE_UP = /^round-[0-9a-f]{8,}-[0-9a-f]+$/; // an id that says nothing to a person
const ARROWS = { long: "▲", short: "▼" };
const TROUBLE = { late: "late", missing: "missing", "stood in": "stood in" };

/** What became of an agent in a round: what is drawn, its class, and the sentence. */
function told([what, ...more] = [""], isOpen) {
  if (what === "voted") return [ARROWS[more[1]] || "◆", "", `${more[1]}${more[2] ? " " + more[2] : ""}, after ${span(more[0])}`];
  if (what === "abstained") return ["○", "quiet", `abstained: ${more[0] || "no reason given"}`];
  if (what === "late") return ["L", "warn", `late by ${span(more[0])}`];
  if (what === "missing" && isOpen) return ["·", "quiet", "has not answered yet"];
  if (what === "missing") return ["×", "bad", `missing; ${more[0] == null ? "no sign of life" : `last heartbeat after ${span(more[0])}`}`];
  if (what === "stood in") return ["≈", "warn", `missing; an old signal stood in${more[1] ? `, ${span(more[1])} old` : ""}`];
  return what ? ["✓", "", what] : ["", "", "not on the roster"];
}

const Legend = () => html`<p class="legend"><span>▲ long</span><span>▼ short</span><span>◆ flat</span><span>○ abstained</span><span class="warn">L late</span><span class="bad">× missing</span><span class="warn">≈ missing, an old signal stood in</span></p>`;

function outcome({ status, valid }) {
  if (status === "open") return ["idle", "open"];
  if (status === "died") return ["warn", STATUSES.died];
  return valid ? ["ok", status] : ["bad", `${status}, not valid`];
}

/** The rounds that are open, in one line that is always there, so that the rows below do not jump. */
function Open({ rounds }) {
  const [first] = rounds;
  return html`<p class="open-now">${first ? html`<b>${count(rounds.length)} open:</b> <span title=${plain(first.id)}><${Text}>${MADE_UP.test(first.id) ? "the oldest" : first.id}<//></span>, ${first.have.length} of ${first.have.length + first.waits_for.length} have answered; waits for <${Text}>${first.waits_for.slice(0, 3).join(", ")}<//>${first.waits_for.length > 3 ? ` and ${first.waits_for.length - 3} more` : ""}` : html`<span class="quiet">No round is open.</span>`}</p>`;
}

function useWidth(box) {
  const [width, set] = useState(0);
  useLayoutEffect(() => {
    const watch = new ResizeObserver(([entry]) => set(Math.floor(entry.contentRect.width)));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return width;
}

/** How often each agent was in trouble here, and which of them have room: those without any go first. */
function columns(agents, rounds, width) {
  const bad = Object.fromEntries(agents.map((name) => [name, { late: 0, missing: 0, "stood in": 0 }]));
  for (const { cells } of rounds) for (const name in cells) if (bad[name] && cells[name][0] in TROUBLE) bad[name][cells[name][0]] += 1;
  const total = (name) => bad[name].late + bad[name].missing + bad[name]["stood in"];
  const room = Math.max(1, Math.floor((width - FIXED_PX * (width < 600 ? 0.62 : 1)) / COLUMN_MIN_PX));
  const kept = new Set([...agents].sort((a, b) => total(b) - total(a)).slice(0, room));
  return { bad, shown: agents.filter((name) => kept.has(name)), hidden: agents.filter((name) => !kept.has(name)), hiddenTrouble: agents.some((name) => !kept.has(name) && total(name)) };
}

function Filters({ query, agents, onChange }) {
  return html`<form class="filters all" onSubmit=${(e) => e.preventDefault()} role="search" aria-label="Filter rounds">
    <label>Agent <select value=${query.agent || ""} onChange=${(e) => onChange({ agent: e.target.value })}><option value="">all</option>${agents.map((name) => html`<option value=${name}>${plain(name)}</option>`)}</select></label>
    <label>Outcome <select value=${query.status || ""} onChange=${(e) => onChange({ status: e.target.value })}><option value="">all</option>${Object.entries(STATUSES).map(([value, word]) => html`<option value=${value}>${word}</option>`)}</select></label>
    <label>Symbol <input data-search key=${query.symbol} defaultValue=${query.symbol || ""} onChange=${(e) => onChange({ symbol: e.target.value.trim() })} /></label></form>`;
}

const Row = ({ round, shown, agent, roomy }) => {
  const [level, word] = outcome(round), address = to("/rounds/" + encodeURIComponent(round.id), { at: round.pos });
  return html`<tr class="opens" onClick=${(e) => e.target.closest("a") || go(address)}>
    <th scope="row"><a class="name" href=${address} title=${plain(round.id)}>${clock(round.opened_wall_ns)}</a></th>
    ${roomy && html`<td title=${plain(round.symbol)}><${Text}>${round.symbol}<//></td>`}<td class=${level} title=${plain(round.reason)}>${level !== "ok" && html`<${Mark} level=${level} /> `}${STATUSES[round.status]}${level === "bad" && html`<span class="sr">, not valid</span>`}</td><td class="num wide">${span(round.took_ns)}</td>
    ${shown.map((name) => { const [glyph, kind, words] = told(round.cells?.[name]); return html`<td class=${`cell ${kind}${name === agent ? " picked" : ""}`} title=${`${plain(name)}: ${plain(words)}`}><span aria-hidden="true">${glyph}</span><span class="sr">${plain(words)}</span></td>`; })}${roomy && html`<td class="quiet">${plain(round.reason)}</td>`}</tr>`;
};

function Matrix({ rounds, agents, agent, isAll, label, address }) {
  const box = useRef(), width = useWidth(box);
  const { bad, shown, hidden, hiddenTrouble } = useMemo(() => columns(agents, rounds, width), [agents, rounds, width]);
  const roomy = shown.length * COLUMN_PX < width - FIXED_PX - ROOMY_PX;
  const sums = ["late", "missing"].map((what) => html`<tr class="sum"><th scope="row" colspan=${roomy ? 3 : 2}>${what} of ${count(rounds.length)}</th><td class="wide"></td>${shown.map((name) => {
    const n = bad[name][what] + (what === "missing" ? bad[name]["stood in"] : 0);
    return html`<td class=${"cell " + (n ? (what === "late" ? "warn" : "bad") : "quiet")}>${n || "·"}</td>`; })}${roomy && html`<td></td>`}</tr>`);
  return html`<div ref=${box} class="matrix">
    ${hidden.length > 0 && html`<p class="quiet">${shown.length} of ${agents.length} agents have room: ${hiddenTrouble ? "those most often late or missing" : "the others were never late or missing here"}.</p>`}
    ${width > 0 && html`<table aria-label=${label}><colgroup><col class="opened" />${roomy && html`<col class="ended" />`}<col class="ended" /><col class="took wide" />${shown.map(() => html`<col style=${{ width: roomy ? COLUMN_PX + "px" : null }} />`)}${roomy && html`<col />`}</colgroup>
      <thead><tr class="names" style=${{ height: `${Math.min(110, 24 + 6 * Math.max(0, ...agents.map((name) => name.length)))}px` }}><th scope="col">opened</th>${roomy && html`<th scope="col">symbol</th>`}<th scope="col">outcome</th><th scope="col" class="num wide">took</th>
        ${shown.map((name) => html`<th scope="col" class=${"cell" + (name === agent ? " picked" : "")} title=${plain(name)}><a href=${address({ agent: name === agent ? "" : name })} aria-label=${`Only rounds of ${plain(name)}`}><${Text}>${name}<//></a></th>`)}${roomy && html`<th scope="col">released because</th>`}</tr>${rounds.length > 0 && sums}</thead>
      <tbody>${rounds.length ? rounds.map((round) => html`<${Row} key=${round.number} round=${round} shown=${shown} agent=${agent} roomy=${roomy} />`) : html`<tr><td class="empty" colspan=${5 + shown.length}>${isAll ? "No round is recorded so far." : "No recorded round fits."}</td></tr>`}</tbody></table>`}</div>`;
}

function List({ query }) {
  const newest = useThrottled(store.pulse?.rounds_number ?? store.rounds.released[0]?.number, EVERY_MS);
  const filters = { agent: query.agent, status: query.status, symbol: query.symbol }, address = (more) => to("/rounds", { ...filters, ...more });
  const got = useKept(to("/api/rounds", { ...filters, before: query.before, limit: LIMIT }), query.before ? "" : newest);
  const ended = useMemo(() => (got.data?.rounds || []).filter((round) => round.status !== "open"), [got.data]);
  const agents = got.data?.agents || store.shape?.roster || [];
  return html`<section class="rounds" aria-label="Rounds"><${Filters} query=${query} agents=${agents} onChange=${(more) => go(address(more), true)} />
    <${Failed} error=${got.error} />
    ${got.data ? html`<div class="above">${!query.before && html`<${Open} rounds=${store.rounds.open} />`}<${Legend} /></div><${Matrix} rounds=${ended} agents=${agents} agent=${query.agent} isAll=${!Object.values(filters).some(Boolean) && !query.before} address=${address} label="Rounds, newest first" />` : !got.error && html`<${Empty}>Reading the rounds …<//>`}
    <div class="head">${query.before && html`<a href=${address({})}>Newest</a>`}${got.data?.next && html`<a href=${address({ before: got.data.next })}>Older</a>`}</div></section>`;
}

/** A value that changes at most every so many milliseconds, so that not every round asks the journal again. */
function useThrottled(value, everyMs) {
  const [held, set] = useState(value), at = useRef(0);
  useEffect(() => {
    const timer = setTimeout(() => { at.current = performance.now(); set(value); }, Math.max(0, at.current + everyMs - performance.now()));
    return () => clearTimeout(timer);
  }, [value]);
  return held;
}

/** The answer of `path`, asked for again when `mark` changes; the last one stays until then. */
function useKept(path, mark) {
  const got = useJson(mark == null || mark === "" ? path : `${path}${path.includes("?") ? "&" : "?"}n=${mark}`), kept = useRef({});
  if (got.data || got.error) kept.current = { path, data: got.data || (kept.current.path === path ? kept.current.data : null), error: got.error };
  return kept.current.path === path ? kept.current : { data: null, error: null };
}

/** When each agent answered, with both deadlines and the release, on one axis. */
function Timeline({ round }) {
  const ends = { "signal time-out": round.signal_timeout_ns, "barrier time-out": round.barrier_timeout_ns };
  const arrivals = Object.entries(round.cells || {}).map(([name, cell]) => ({ name, cell, at: arrival(round, cell) }));
  arrivals.sort((a, b) => (a.at ?? Infinity) - (b.at ?? Infinity));
  const last = Math.max(...Object.values(ends).filter(Boolean), round.took_ns || 0, ...arrivals.map((a) => a.at || 0), 1) * 1.04;
  const x = (ns) => `${((100 * ns) / last).toFixed(2)}%`;
  const lines = () => html`${round.took_ns != null && html`<line class="release" x1=${x(round.took_ns)} x2=${x(round.took_ns)} y1="0" y2="100%" />`}${Object.entries(ends).map(([name, ns]) => ns && html`<line class=${"due " + name.slice(0, 6)} x1=${x(ns)} x2=${x(ns)} y1="0" y2="100%" />`)}`;
  return html`<div class="timeline" role="table" aria-label="When each agent answered">
    <div role="row" class="axis"><span role="columnheader">from the opening</span><svg aria-hidden="true">${lines()}</svg><span role="cell">to ${span(last / 1.04)}</span></div>
    ${arrivals.map(({ name, cell, at }) => { const [glyph, kind, words] = told(cell, round.status === "open"); return html`<div role="row"><span role="rowheader"><${Text}>${name}<//>${round.critical?.includes(name) && html` <small>critical</small>`}</span>
      <svg aria-hidden="true">${lines()}${at != null && html`<line class="reach" x1="0" x2=${x(at)} y1="50%" y2="50%" /><circle class=${kind} cx=${x(at)} cy="50%" r="4" />`}</svg><span role="cell" class=${kind}><span aria-hidden="true">${glyph} </span><${Text}>${words}<//></span></div>`; })}
    <p class="legend">${Object.entries(ends).map(([name, ns]) => ns && html`<span><svg class="sample" aria-hidden="true"><line class=${"due " + name.slice(0, 6)} x1="50%" x2="50%" y1="0" y2="100%" /></svg> ${name} ${span(ns)} </span>`)}<span><svg class="sample" aria-hidden="true"><line class="release" x1="50%" x2="50%" y1="0" y2="100%" /></svg> released after ${span(round.took_ns)}</span></p></div>`;
}

function arrival(round, [what, ns]) {
  if (what === "voted" || (what === "missing" && ns != null)) return ns;
  return what === "late" ? (round.took_ns || 0) + ns : null;
}

function Opened({ id, at }) {
  const got = useJson(to("/api/round", { id, before: at && Number(at) + 1 }), AGAIN_MS), round = got.data;
  const [level, word] = round ? outcome(round) : ["idle", ""], title = useRef();
  useEffect(() => title.current?.focus({ preventScroll: true }), [!round]);
  return html`<article class="sheet" aria-label="Round"><div class="head"><a href="/rounds" data-close>Back to the rounds</a></div>
    <${Failed} error=${got.error} />${!round ? !got.error && html`<${Empty}>Reading the round …<//>` : html`
    <h1 class=${level} tabindex="-1" ref=${title}><${Mark} level=${level} /> ${word[0].toUpperCase() + word.slice(1)}${round.took_ns != null ? `, after ${span(round.took_ns)}` : ""}</h1>
    <dl class="facts"><${Fact} term="round"><${Text}>${round.id}<//><//><${Fact} term="opened">${clock(round.opened_wall_ns, true)}<//><${Fact} term="opened by"><${Text}>${round.opened_by || "the main program"}<//><//>
      ${round.symbol && html`<${Fact} term="symbol"><${Text}>${round.symbol}<//><//>`}<${Fact} term="quorum">${count(round.quorum)} of ${count(Object.keys(round.cells || {}).length)}<//>
      <${Fact} term="signal time-out">${span(round.signal_timeout_ns)}<//><${Fact} term="barrier time-out">${span(round.barrier_timeout_ns)}<//>${round.reason && html`<${Fact} term="released because"><${Text}>${round.reason}<//><//>`}</dl>
    <h2>Arrivals</h2><${Timeline} round=${round} /><h2>In words</h2><pre><${Text}>${round.explain}<//></pre>
    <div class="head"><a href=${to("/events", { round: round.id })}>Its events</a> <a href=${"/why/" + encodeURIComponent("round:" + round.id + (round.ordinal > 1 ? ":" + round.ordinal : ""))}>What was decided, and why</a></div>`}</article>`;
}

export default function Rounds({ query, args }) {
  useStore();
  return args[0] ? html`<${Opened} key=${args[0] + query.at} id=${args[0]} at=${query.at} />` : html`<${List} query=${query} />`;
}
