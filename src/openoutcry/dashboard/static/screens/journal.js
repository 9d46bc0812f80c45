// Journal: what is on the disk, what is not yet, who is behind, whether it is intact, and what was done to it.
import { html, useState } from "../dom.js";
import { ask, stale, store, useJson, useStore } from "../store.js";
import { bytes, clock, count, Empty, Fact, Failed, Mark, Name, plain, span, Table, Text, to } from "../ui.js";

const AGAIN_MS = 2000;

const CURSORS = [
  { head: "subscription", cell: (c) => html`<${Name} name=${c.name} />` },
  { head: "position", w: "96px", num: true, cell: (c) => count(c.position) },
  { head: "lag", w: "88px", num: true, title: "Events in the journal that wait for it", cell: (c) => (c.exact ? "" : "≤ ") + count(c.lag) },
];
const when = { head: "when", w: "156px", cell: (e) => html`<${Name} name=${clock(e.wall_ns)} to=${to("/events", { pos: e.pos })} />` };
const cell = (text, tip) => html`<span title=${plain(tip || text)}><${Text}>${text}<//></span>`;
const STARTS = [
  when,
  { head: "process", w: "72px", num: true, cell: (s) => s.process_id },
  { head: "program", cell: (s) => cell([s.app, `openoutcry ${s.version}${s.host ? ` on ${s.host}` : ""}`, `Python ${s.python}`, s.sqlite && `SQLite ${s.sqlite}`].filter(Boolean).join(", ")) },
];
const ACTIONS = [
  when,
  { head: "who", w: "22%", wide: "wide", cell: (a) => cell(`${a.operator}, ${a.via}`) },
  { head: "what", cell: (a) => cell(`${a.verb.replaceAll("_", " ")} ${a.target}${a.reason ? ` (${a.reason})` : ""}`) },
  { head: "answer", w: "30%", wide: "wide", cell: (a) => cell(a.answer) },
];
const size = (cursor) => Math.floor(Math.log10(cursor.lag + 1)); // so that small differences move no row

/** One line a subscription: the furthest behind of its lanes, and all that waits for it, as the firm knows it while it runs. */
function byName(cursors, head, rows) {
  const found = new Map();
  for (const { name, position, lag, exact } of cursors) {
    const had = found.get(name) || { name, position, lag: 0, exact };
    found.set(name, { name, position: Math.min(had.position, position), lag: had.lag + lag, exact: exact && had.exact });
  }
  for (const c of found.values()) {
    if (rows[c.name]) Object.assign(c, { lag: rows[c.name].lag, exact: true });
    c.lag = Math.min(c.lag, Math.max(0, head - c.position));
  }
  return [...found.values()].sort((a, b) => size(b) - size(a));
}

function Verify({ verify, again }) {
  const [error, setError] = useState(null), { state, done, total, findings } = verify, runs = state === "running";
  const start = async () => {
    setError(null);
    try { await ask("/api/verify", {}); again(); } catch (failed) { setError(failed); }
  };
  return html`<section aria-label="Verification"><h2>Verification</h2>
    <p class="row"><button disabled=${runs} onClick=${start}>${runs ? "Verifying …" : "Verify"}</button>
      ${runs ? html`<progress value=${done} max=${total || 1} aria-label="Entries verified"></progress><span class="quiet">${count(done)} of ${count(total)}</span>`
        : state === "not begun" && html`<span class="quiet">Reads every entry again, in the page's process. The firm does not wait for it.</span>`}</p>
    <${Failed} error=${error || (state === "failed" ? { message: verify.why } : null)} />
    <div role="status">${state === "intact" && html`<p><${Mark} level="ok" /> Intact: ${count(verify.entries)} entries are what was written.</p>`}
      ${state === "damaged" && html`<p class="bad"><${Mark} level="bad" /> Damaged: ${count(findings.length)} ${findings.length === 1 ? "problem" : "problems"}.</p><ul class="findings">${findings.map((f) => html`<li>${f.pos == null ? "" : `${count(f.pos)}: `}<${Text}>${f.what}<//></li>`)}</ul>`}</div></section>`;
}

const LEVELS = { memory: "nothing", process: "a crash", disk: "a power cut" };

function Facts({ data }) {
  const { live } = data, only = (value) => (live ? value(live) : html`<span class="quiet">not while it is stopped</span>`);
  return html`<dl class="facts"><${Fact} term="file"><span class="mono"><${Text}>${data.path}<//></span><//>
    <${Fact} term="entries">${data.head ? `${count(data.first)} to ${count(data.head)}` : "none"}<//><${Fact} term="size">${bytes(data.bytes)}<//><${Fact} term="write-ahead log">${bytes(data.wal_bytes)}<//>
    <${Fact} term="growth">${data.growth_per_s == null ? "–" : `${bytes(Math.max(0, data.growth_per_s))}/s`}<//><${Fact} term="ordinary events survive">${only((j) => LEVELS[j.level] || plain(j.level))}<//>
    <${Fact} term="not synced yet">${only((j) => count(j.head - j.synced))}<//><${Fact} term="waiting for the disk">${only((j) => count(j.waiting))}<//><${Fact} term="last sync took">${only((j) => (j.syncs ? span(j.sync_ns_last) : "–"))}<//><${Fact} term="longest sync">${only((j) => (j.syncs ? span(j.sync_ns_max) : "–"))}<//>
    <${Fact} term="commits">${only((j) => count(j.commits))}<//><${Fact} term="syncs">${only((j) => count(j.syncs))}<//><${Fact} term="duplicates">${only((j) => count(j.duplicates))}<//></dl>`;
}

export default function Journal() {
  useStore();
  const [asked, setAsked] = useState(0), got = useJson("/api/journal", AGAIN_MS - (asked % 2)), data = got.data;
  if (!data) return html`<${Failed} error=${got.error} />${!got.error && html`<${Empty}>Reading the journal …<//>`}`;
  return html`<div class="journal"><${Failed} error=${got.error} />
    ${data.live?.dead && html`<p class="failed" role="alert"><${Mark} level="bad" /> The journal takes nothing more: <${Text}>${data.live.dead}<//></p>`}
    ${data.live?.refused && !data.live.dead && html`<p class="failed" role="alert"><${Mark} level="bad" /> Durable events are refused: <${Text}>${data.live.refused}<//></p>`}
    <section aria-label="The file"><h2>The file</h2><${Facts} data=${data} /></section>
    <${Verify} verify=${data.verify} again=${() => setAsked((n) => n + 1)} />
    <section aria-label="Cursors"><h2>How far each subscription has read</h2><${Table} label="Cursors" cols=${CURSORS} rows=${byName(data.cursors, data.head, stale() ? {} : store.pulse?.rows || {})} id=${(c) => c.name} empty="No subscription keeps its place in this journal." /></section>
    <section aria-label="Starts"><h2>Starts</h2><${Table} label="Starts" cols=${STARTS} rows=${data.starts} id=${(s) => s.pos} empty="No start is recorded in it." /></section>
    <section aria-label="Actions of operators"><h2>Actions of operators</h2><${Table} label="Actions of operators" cols=${ACTIONS} rows=${data.actions} id=${(a) => a.pos} empty="No operator has changed anything yet." /></section></div>`;
}
