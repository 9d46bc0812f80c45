// The floor: who is the problem. What is wrong, the topology, and the subscriptions by lag.
import { html, useRef, useState } from "../dom.js";
import { barred, stale, useStore } from "../store.js";
import { age, count, Do, Empty, LEVEL, Mark, Name, plain, rate, sub, Table, Text, to, go } from "../ui.js";
import { Release } from "../bar.js";
import { Topology } from "../topology.js";
import { Drawer } from "./subscription.js";

const RESORT_MS = 3000;

function Act({ wrong }) {
  const [open, set] = useState(false), { pulse, shape } = useStore(), target = wrong.target || wrong.culprit;
  if (wrong.action === "resume") return html`<${Do} path="/api/resume" body=${{ subscription: target }} barred=${barred()} label=${`Resume ${target}`}>Resume<//>`;
  if (wrong.action === "dead") return html`<a href=${to("/dead", { subscription: target })}>Dead letters</a>`;
  if (wrong.action === "release")
    return html`<button class="small" disabled=${!!barred()} onClick=${() => set(true)}>Release</button>${open && html`<${Release} halts=${pulse.halts.filter((h) => h.scope === wrong.target)} onClose=${() => set(false)} />`}`;
  return shape?.subscriptions.some((s) => s.name === target) ? html`<a href=${sub(target)} aria-label=${`Look at ${plain(target)}`}>Look</a>` : null;
}

function Wrong({ wrong }) {
  const empty = stale() ? "Only a running process can say what is wrong." : "Nothing is wrong.";
  return html`<section class="pane wrong live" aria-label="What is wrong"><div class="head"><h2>What is wrong</h2><span class="quiet">${wrong.length || ""}</span></div>
    ${wrong.length ? html`<ul>${wrong.map((w) => html`<li key=${w.culprit + w.sentence.replace(/\d/g, "")}><${Mark} level=${LEVEL[w.severity] || "warn"} /><span><span class="sr">${w.severity}: </span><${Text}>${w.sentence}<//></span><span><${Act} wrong=${w} /></span></li>`)}</ul>` : html`<${Empty}>${empty}<//>`}</section>`;
}

/** Rows in trouble first, then in the order of their lag: sorted anew every few seconds, and never under a pointer or the focus. */
function useOrder(rows, levels) {
  const order = useRef([]), atMs = useRef(0), still = useRef(false), now = performance.now();
  const names = Object.keys(rows);
  if ((!still.current && now - atMs.current > RESORT_MS) || order.current.length !== names.length) {
    const weight = ({ lag, waiting, dead }) => Math.floor(Math.log10(Math.max(lag || 0, waiting || 0, 1))) + (dead ? 0.5 : 0); // a few more or less move nobody
    const trouble = (n) => ({ bad: 2, warn: 1 })[levels[n]] || 0;
    order.current = names.sort((a, b) => trouble(b) - trouble(a) || weight(rows[b]) - weight(rows[a]) || a.localeCompare(b));
    atMs.current = now;
  }
  const hold = (yes) => () => { still.current = yes; };
  return [order.current.filter((n) => rows[n]), { onPointerEnter: hold(true), onPointerLeave: hold(false), onFocusIn: hold(true), onFocusOut: hold(false) }];
}

/** A rate whose ones stand below those of others that have a decimal. */
const aligned = (n) => rate(n) + (n >= 9.95 ? "\u2008\u2007" : "");

const CALM = ["idle", "busy", ""];
const COLS = (levels, chosen) => [
  { head: "subscription", cell: ([n]) => html`<${Name} name=${n} />` },
  { head: "state", w: "124px", cell: ([n, r]) => html`<${State} row=${r} level=${levels[n]} />` },
  { head: "lag", w: "58px", num: true, title: "Events behind the head of the log", cell: ([, r]) => count(r.lag) },
  { head: "waiting", w: "62px", num: true, wide: "roomy", cell: ([, r]) => count(r.waiting) },
  { head: "in/s", w: "54px", num: true, wide: "roomy", cell: ([, r]) => aligned(r.per_s?.accepted) },
  { head: "out/s", w: "50px", num: true, wide: "wide", cell: ([, r]) => aligned(r.per_s?.handled) },
  { head: "dead", w: "46px", num: true, cell: ([n, r]) => (r.dead ? html`<a href=${to("/dead", { subscription: n })}>${count(r.dead)}</a>` : "0") },
];
function State({ row, level }) {
  if (!level && CALM.includes(row.state) && !busy(row)) return html`<span class="quiet">ok</span>`; // idle and busy take turns too fast to read
  return html`<span class=${level || ""}><${Mark} level=${level || "idle"} /> ${!CALM.includes(row.state) || busy(row) ? plain(row.state) : row.dead ? "dead letters" : level === "bad" ? "trouble" : "caution"}${busy(row) && ` ${busy(row)}`}</span>`;
}
const busy = (r) => r.busy_ns > 1e9 && age(r.busy_ns);

export default function Floor({ path, query, args }) {
  const { shape, pulse } = useStore(), rows = pulse?.rows || {};
  const wrong = pulse?.wrong || [], levels = {};
  for (const w of [...wrong].reverse()) levels[w.culprit] = LEVEL[w.severity] || "warn";
  for (const r of Object.values(rows)) r.busy_ns = r.busy_since_ns ? pulse.now_ns - r.busy_since_ns : 0;
  const [order, still] = useOrder(rows, levels), chosen = path.startsWith("/s/") ? args[0] : "";
  const listed = !query.map && innerWidth < 600;
  if (!shape && stale() === "connecting") return html`<${Empty}>Connecting to the page's process …<//>`;
  return html`<div class=${"floor" + (chosen ? " with" : "") + (listed ? " listed" : "")}>
    ${chosen ? html`<${Drawer} name=${chosen} key=${chosen} level=${levels[chosen]} />` : html`<${Wrong} wrong=${wrong} />`}
    <section class="map live" aria-label="Topology"><div class="head"><h2>Topology</h2>
      <span class="quiet">${shape ? `${shape.subscriptions.length} subscriptions` : "unknown until a process runs"}</span>
      <span class="rest">${query.open && html`<a href=${to("/", { ...query, open: "" })}>Fold</a>`}${query.near && html`<a href="/">Whole firm</a>`}
      ${innerWidth < 600 && html`<button class="small" onClick=${() => go(to("/", { ...query, map: listed ? "1" : "" }))}>${listed ? "Show" : "Hide"}</button>`}</span></div>
      ${!shape && html`<${Empty}>Who is on the floor is known while a process runs. What it recorded is under <a href="/rounds">Rounds</a>, <a href="/events">Events</a>, <a href="/dead">Dead letters</a> and <a href="/journal">Journal</a>.<//>`}
      ${!listed && shape && html`<${Topology} rows=${rows} levels=${levels} chosen=${chosen} query=${query} />`}</section>
    ${!chosen && html`<section class="pane subs live" aria-label="Subscriptions" ...${still}><${Table} label="Subscriptions by lag" cols=${COLS(levels)} rows=${order.map((n) => [n, rows[n]])} id=${(r) => r[0]} empty=${stale() ? "Who is subscribed is known while a process runs." : "Nobody has subscribed."} /></section>`}
  </div>`;
}
