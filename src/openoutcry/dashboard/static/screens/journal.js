// Journal: what is on the disk, what is not yet, who is behind, whether it is intact, and what was done to it.
import { html, useState } from "../dom.js";
import { ask, store, useJson, useStore } from "../store.js";
import { bytes, clock, count, Empty, Fact, Failed, Mark, Name, plain, rate, span, Table, Text } from "../ui.js";

const AGAIN_MS = 2000;

const CURSORS = [
  { head: "subscription", cell: (c) => html`<${Name} name=${c.name} />` },
  { head: "position", w: "96px", num: true, cell: (c) => count(c.position) },
  { head: "lag", w: "80px", num: true, cell: (c) => count(c.lag) },
];
const STARTS = [
  { head: "when", w: "156px", cell: (s) => clock(s.wall_ns) },
  { head: "process", w: "72px", num: true, cell: (s) => s.pid },
  { head: "program", cell: (s) => html`<span title=${plain(said(s))}><${Text}>${said(s)}<//></span>` },
];
const ACTIONS = [
  { head: "when", w: "156px", cell: (a) => clock(a.wall_ns) },
  { head: "who", w: "22%", wide: true, cell: (a) => html`<span title=${plain(a.origin)}><${Text}>${a.by}<//></span>` },
  { head: "what", cell: (a) => html`<span title=${plain(`${a.verb} ${a.target}: ${a.reason || "no reason"}`)}><${Text}>${`${a.verb} ${a.target}`}<//>${a.reason && html` <span class="quiet">“<${Text}>${a.reason}<//>”</span>`}</span>` },
  { head: "answer", w: "30%", wide: true, cell: (a) => html`<span class=${a.ok === false ? "bad" : ""} title=${plain(a.answer)}>${a.ok === false && html`<${Mark} level="bad" /> `}<${Text}>${a.answer}<//></span>` },
];
const size = (cursor) => Math.floor(Math.log10(cursor.lag + 1)); // so that small differences move no row
const said = (start) => [start.app, start.host, start.version && `openoutcry ${start.version}`, start.python && `Python ${start.python}`, start.sqlite && `SQLite ${start.sqlite}`].filter(Boolean).join(", ");

function Verify({ verify, again }) {
  const [error, setError] = useState(null), state = verify?.state || "never", runs = state === "running";
  const start = async () => {
    setError(null);
    try { await ask("/api/verify", {}); again(); } catch (failed) { setError(failed); }
  };
  const found = verify?.findings || [];
  return html`<section aria-label="Verification"><h2>Verification</h2>
    <p class="row"><button disabled=${runs} onClick=${start}>${runs ? "Verifying …" : "Verify"}</button>
      ${runs && html`<progress value=${verify.done} max=${verify.total || 1} aria-label="Entries verified"></progress>`}<span class="quiet">${runs
        ? `${count(verify.done)} of ${count(verify.total)}`
        : state === "never" ? "Reads every entry again, in the page's process; the firm does not wait for it." : ""}</span></p>
    <${Failed} error=${error} />
    <div role="status">${state === "done" && (found.length
      ? html`<p class="bad"><${Mark} level="bad" /> ${count(found.length)} ${found.length === 1 ? "problem" : "problems"} in ${count(verify.total)} entries:</p><ul class="findings">${found.map((f) => html`<li><${Text}>${f}<//></li>`)}</ul>`
      : html`<p><${Mark} level="ok" /> Intact: ${count(verify.total)} entries are what was written.</p>`)}
    ${state === "failed" && html`<${Failed} error=${{ message: found[0] || "it could not be read" }} />`}</div></section>`;
}

function Facts({ data }) {
  const { sync = {} } = data, live = store.state.live === "up";
  const only = (value, form) => (value == null ? html`<span class="quiet">${live ? "–" : "known while the firm runs"}</span>` : form(value));
  return html`<dl class="facts"><${Fact} term="file"><span class="mono"><${Text}>${data.path}<//></span><//>
    <${Fact} term="entries">${data.head ? `${count(data.first)} to ${count(data.head)}` : "none"}<//><${Fact} term="ordinary events survive">${{ memory: "nothing", process: "a crash", disk: "a power cut" }[data.level] || only(data.level, plain)}<//>
    <${Fact} term="not synced yet">${only(data.unsynced, (n) => html`<span class=${n > 0 && data.level === "disk" ? "warn" : ""}>${count(n)}</span>`)}<//>
    <${Fact} term="size">${bytes(data.bytes)}<//><${Fact} term="write-ahead log">${bytes(data.wal_bytes)}<//><${Fact} term="growth">${only(data.growth_per_s, (n) => `${bytes(n)}/s`)}<//>
    <${Fact} term="last sync took">${only(sync.last_ns, span)}<//><${Fact} term="longest sync">${only(sync.max_ns, span)}<//><${Fact} term="syncs">${only(sync.count, count)}<//><${Fact} term="commits">${only(sync.commits, count)}<//>
    <${Fact} term="duplicates refused">${only(data.duplicates, count)}<//></dl>`;
}

export default function Journal() {
  useStore();
  const [asked, setAsked] = useState(0), got = useJson("/api/journal", AGAIN_MS - (asked % 2)), data = got.data;
  if (!data) return html`<${Failed} error=${got.error} />${!got.error && html`<${Empty}>Reading the journal …<//>`}`;
  if (!data.path) return html`<${Empty}>This firm keeps no journal: what it did ends with its process. EventBus(persistence_config=…) gives it one.<//>`;
  const cursors = [...(data.cursors || [])].sort((a, b) => size(b) - size(a));
  return html`<div class="journal"><${Failed} error=${got.error} />
    ${data.dead && html`<p class="failed" role="alert"><${Mark} level="bad" /> The journal takes nothing more: <${Text}>${data.dead}<//></p>`}
    <section aria-label="The file"><h2>The file</h2><${Facts} data=${data} /></section>
    <${Verify} verify=${data.verify} again=${() => setAsked((n) => n + 1)} />
    <section aria-label="Cursors"><h2>How far each subscription has come</h2><${Table} label="Cursors" cols=${CURSORS} rows=${cursors} id=${(c) => c.name} empty="No subscription keeps its place in this journal." /></section>
    <section aria-label="Starts"><h2>Starts</h2><${Table} label="Starts" cols=${STARTS} rows=${data.starts || []} id=${(s) => s.pos} empty="No start is recorded in it." /></section>
    <section aria-label="Actions of operators"><h2>Actions of operators</h2><${Table} label="Actions of operators" cols=${ACTIONS} rows=${data.actions || []} id=${(a) => a.pos} empty="Nobody has changed anything from outside." /></section></div>`;
}
