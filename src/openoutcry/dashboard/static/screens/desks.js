// Desks: how the link to the firm's other desks stands, who is heard, who is behind whom.
import { html } from "../dom.js";
import { stale, useStore } from "../store.js";
import { bytes, count, Empty, Fact, Mark, plain, span, Table, Text } from "../ui.js";

const LEVELS = { up: "ok", behind: "warn", gap: "warn", away: "idle", "": "idle" };
const SILENT_NS = 3e9;
const level = (word) => LEVELS[word] ?? "bad";
const Word = ({ word }) => html`<span class=${level(word)}><${Mark} level=${level(word)} /> <${Text}>${word || "unheard"}<//></span>`;
/** A process is named by its id and what tells it from others of that id; the first is enough to read. */
const holder = (desk) => (desk.holder ? `${desk.holder.replace(/^([0-9]+)\.[0-9a-f]{8}\..*$/s, "pid $1")}${desk.host ? ` on ${desk.host}` : ""}` : "nobody");
const sum = (logs, of) => logs.reduce((all, log) => all + Math.max(0, of(log)), 0);
const toImport = (desk) => sum(desk.logs, (log) => log.exported - log.imported);
const toExport = (log) => (log.waiting_since_ns ? Math.max(0, log.released - log.exported) : 0);

/** A desk that has said nothing for seconds is not what it last said of itself. One that nobody holds was stopped. */
function wordOf(desk, now) {
  if (desk.word === "away" || !desk.heard_ns) return desk.word || (desk.holder ? "" : "away");
  return now - desk.heard_ns > SILENT_NS ? "silent" : desk.word;
}

const DESKS = (now) => [
  { head: "desk", cell: (d) => html`<b><${Text}>${d.desk}<//></b>` },
  { head: "link", w: "86px", cell: (d) => html`<${Word} word=${wordOf(d, now)} />` },
  { head: "heard", w: "56px", num: true, cell: (d) => (d.heard_ns ? (now - d.heard_ns < 1e9 ? "now" : span(now - d.heard_ns)) : "–") },
  { head: "to import", w: "74px", num: true, title: "Positions of its journal that are exported, and not imported here", cell: (d) => count(toImport(d)) },
  { head: "halts", w: "52px", num: true, title: "Kill switches that are active there", cell: (d) => count(d.halts) },
  { head: "ticks lost", w: "76px", num: true, wide: "roomy", title: "Ticks of it that never came", cell: (d) => count(d.ticks_lost) },
  { head: "conflated", w: "76px", num: true, wide: "wide", title: "Ticks that a newer one replaced before the bus saw them", cell: (d) => count(d.ticks_conflated) },
  { head: "held by", w: "24%", wide: "wide", cell: (d) => html`<span title=${plain(`${d.holder} on ${d.host}, openoutcry ${d.version}`)}><${Text}>${holder(d)}<//></span>` },
];
const LOGS = (now) => [
  { head: "log", cell: (l) => html`<b>${l.log}</b>` },
  { head: "exported", w: "90px", num: true, title: "Events, in this session", cell: (l) => count(l.events) },
  { head: "waiting", w: "80px", num: true, title: "Positions of the journal that are not exported yet", cell: (l) => count(toExport(l)) },
  { head: "for", w: "66px", num: true, cell: (l) => (l.waiting_since_ns ? span(now - l.waiting_since_ns) : "–") },
  { head: "refused", w: "70px", num: true, wide: "roomy", title: "Groups that the engine did not take at once", cell: (l) => count(l.refusals) },
  { head: "size", w: "150px", num: true, wide: "roomy", cell: (l) => bytes(l.size_bytes) + (l.most_bytes ? ` of ${bytes(l.most_bytes)}` : "") },
];
const IMPORTS = [
  { head: "from", cell: (i) => html`<${Text}>${i.desk}<//> <span class="quiet">${i.log}</span>` },
  { head: "imported", w: "90px", num: true, title: "Events, in this session", cell: (i) => count(i.events) },
  { head: "had before", w: "88px", num: true, wide: "roomy", title: "Events that came and were there already", cell: (i) => count(i.duplicates) },
  { head: "to import", w: "82px", num: true, cell: (i) => count(Math.max(0, i.exported - i.imported)) },
  { head: "gap", w: "30%", cell: (i) => (i.gap ? html`<span class="warn"><${Mark} level="warn" /> <${Text}>${i.gap}<//></span>` : html`<span class="quiet">none</span>`) },
];

function Facts({ link, now }) {
  const engine = link.engine ? `${link.engine}, ${link.replicas} ${link.replicas === 1 ? "node keeps" : "nodes keep"} the logs` : "not reached yet";
  return html`<dl class="facts two"><${Fact} term="this desk"><b><${Text}>${link.desk}<//></b> of <${Text}>${link.firm}<//><//>
    <${Fact} term="link"><${Word} word=${link.word} /><//>
    <${Fact} term="engine"><${Text}>${engine}<//>${!link.is_connected && html` <span class="bad"><${Mark} level="bad" /> no node answers</span>`}<//>
    <${Fact} term="nodes sync">${link.is_synced ? "before they acknowledge" : "now and then"}<//>
    <${Fact} term="seat">${link.holder ? html`held, renewed ${link.renewed_ns ? `${span(now - link.renewed_ns)} ago` : "never"}` : html`<span class="bad"><${Mark} level="bad" /> not held</span>`}${link.lease_s ? html` <span class="quiet">(lease ${link.lease_s} s)</span>` : ""}<//>
    <${Fact} term="cut off, it">${link.on_link_lost === "halt" ? "halts itself" : "raises an alert"}<//><${Fact} term="ticks sent">${count(link.ticks_sent)}<//></dl>`;
}

export default function Desks() {
  const { pulse } = useStore(), link = pulse?.link;
  if (!pulse) return html`<${Empty}>${stale() === "connecting" ? "Connecting to the page's process …" : "How the desks stand is known while a process runs."}<//>`;
  if (!link) return html`<${Empty}>This firm runs in one process: its settings have no [link].<//>`;
  const now = pulse.now_ns, imports = link.desks.flatMap((d) => d.logs.map((log) => ({ ...log, desk: d.desk })));
  return html`<div class="journal live">
    <section aria-label="This desk"><h2>This desk</h2>${link.why && html`<p class=${level(link.word)} role="status"><${Mark} level=${level(link.word)} /> <${Text}>${link.why}<//></p>`}<${Facts} link=${link} now=${now} /></section>
    <section aria-label="What it exports"><h2>What it exports</h2><${Table} label="Logs" cols=${LOGS(now)} rows=${link.logs} id=${(l) => l.log} empty="Nothing." /></section>
    <section aria-label="Other desks"><h2>Other desks</h2><${Table} label="Other desks" cols=${DESKS(now)} rows=${link.desks} id=${(d) => d.desk} empty="No other desk is known." /></section>
    <section aria-label="What it imports"><h2>What it imports</h2><${Table} label="Imports" cols=${IMPORTS} rows=${imports} id=${(i) => `${i.desk} ${i.log}`} empty="No other desk is known." /></section></div>`;
}
