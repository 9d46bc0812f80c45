// One subscription: what it is doing, whether that is usual, why, and what can be done.
import { html, useEffect, useRef, useState } from "../dom.js";
import { barred, stale, useJson, useStore } from "../store.js";
import { Chart } from "../chart.js";
import { age, count, Do, Empty, Fact, Failed, kind, Mark, plain, rate, span, sub, Text, to } from "../ui.js";

/** A value of an option; of what a program has made, its parts: Retry(times=3) -> times=3, Gate() -> Gate. */
const inWords = (v) => (typeof v === "object" ? JSON.stringify(v) : String(v).replace(/^(\w+)\((.*)\)$/, (_, name, parts) => parts || name));

/** Options that are not the usual ones, in words. */
const options = (shape) => [
  shape.agent && "signal agent", shape.durable && "durable", shape.blocking && "in a thread", shape.concurrency > 1 && `${shape.concurrency} at once`,
  `time-out ${shape.timeout_s == null ? "none" : shape.timeout_s + " s"}`, `room for ${count(shape.capacity)}`,
  ...Object.entries(shape.options || {}).map(([k, v]) => `${k.replaceAll("_", " ")} ${inWords(v)}`),
].filter(Boolean).join(" · ");

function Call({ row, now }) {
  if (!row?.busy_since_ns) return html`<p class="quiet">No call at the moment.</p>`;
  return html`<p>${row.call_event ? html`With <b>${kind(row.call_event)}</b> for ` : "In a call for "}<b>${age(now - row.busy_since_ns)}</b></p>`;
}

/** What waits: by lane where that is known, else in all. */
function Waiting({ lanes, row, now }) {
  const known = (lanes || []).filter((l) => l.waiting != null), old = (ns) => (ns ? `, oldest ${age(now - ns)}` : "");
  const each = known.length ? known.map((l) => [l.lane, l.waiting, l.oldest_ns, l.per_s]) : row ? [["waiting", row.waiting, row.oldest_ns]] : [];
  return each.map(([name, waiting, oldest, perS]) => html`<${Fact} term=${name}>${count(waiting)}${waiting ? old(oldest) : ""}${perS == null ? "" : `, ${rate(perS)}/s`}<//>`);
}

function Actions({ name, row, dead }) {
  const off = barred();
  return html`<span class="row">${row?.state === "paused"
    ? html`<${Do} path="/api/resume" body=${{ subscription: name }} barred=${off} label=${`Resume ${plain(name)}`}>Resume<//>`
    : html`<${Do} path="/api/pause" body=${{ subscription: name }} barred=${off} label=${`Pause ${plain(name)}`}>Pause<//>`}
    ${!!dead && html`<a href=${to("/dead", { subscription: name })}>${count(dead)} dead</a>`}<a href=${to("/events", { agent: name })}>Its events</a></span>`;
}

/** The pane at the floor's right; on a small screen the whole of it. */
export function Drawer({ name, level }) {
  const { pulse, shape } = useStore(), { data, error } = useJson(`/api/subscription?name=${encodeURIComponent(name)}`, 1000);
  const row = pulse?.rows?.[name] || data?.row, mine = shape?.subscriptions.find((s) => s.name === name) || data?.shape, title = useRef();
  useEffect(() => {
    title.current?.focus({ preventScroll: true });
    return () => requestAnimationFrame(() => document.activeElement === document.body && document.querySelector(`main a[href="${sub(name)}"]`)?.focus({ preventScroll: true }));
  }, []);
  const wrong = (pulse?.wrong || []).filter((w) => w.culprit === name);
  const times = (p) => (p?.count ? `${span(p.p50)} · ${span(p.p99)} · ${span(p.p999)}` : "none yet");
  return html`<aside class="pane drawer live" aria-label=${`Subscription ${plain(name)}`}>
    <div class="head"><h1 tabindex="-1" ref=${title}><${Text}>${name}<//></h1><span class=${level || ""}>${level && html`<${Mark} level=${level} /> `}${row ? plain(row.state) : ""}</span>
      <a class="rest" href="/" data-close aria-label="Close">Close</a></div>
    ${!mine && !row ? html`<${Empty}>${error ? plain(error.message) : stale() ? "What a subscription does is known while a process runs." : data || shape ? "Nobody is subscribed under this name." : "Asking …"}<//>` : html`
    ${wrong.map((w) => html`<p class="empty ${w.severity === "warn" ? "warn" : "bad"}"><${Text}>${w.sentence}<//></p>`)}
    <div class="head"><${Actions} name=${name} row=${row} dead=${row?.dead} /></div>
    <section><div class="head"><h2>Now</h2><${Call} row=${row} now=${pulse?.now_ns} /></div>
      <dl class="facts"><${Waiting} lanes=${data?.lanes} row=${row} now=${pulse?.now_ns} /><${Fact} term="handled">${count(row?.handled)}<//><${Fact} term="in flight">${count(row?.in_flight)}<//><${Fact} term="lag">${count(row?.lag)}<//><${Fact} term="errors">${count(row?.errors)}<//>
        <${Fact} term="retries">${count(row?.retries)}<//><${Fact} term="time-outs">${count(row?.timeouts)}<//><${Fact} term="let go">${count((row?.overflowed || 0) + (row?.conflated || 0) + (row?.expired || 0))}<//><${Fact} term="holds">${row?.holds ? plain([row.holds].flat().join(", ")) || "none" : "none"}<//></dl></section>
    <section><div class="head"><h2>Time, admission to end</h2></div>
      <${Chart} series=${data?.series} columns=${[1, 2]} names=${["p50", "p99"]} format=${span} log label="Latency, median and 99th percentile, last 15 minutes" />
      <dl class="facts two"><${Fact} term="latency p50 · p99 · p99.9">${times(data?.latency)}<//><${Fact} term="call p50 · p99 · p99.9">${times(data?.duration)}<//></dl></section>
    <section><div class="head"><h2>Events a second</h2></div>
      <${Chart} series=${data?.series} columns=${[3, 4]} names=${["in", "out"]} format=${rate} label="Events in and out a second, last 15 minutes" /></section>
    <section><div class="head"><h2>Last error</h2></div>${data?.last_error ? html`<pre><${Text}>${typeof data.last_error === "string" ? data.last_error : data.last_error.text || JSON.stringify(data.last_error)}<//></pre>` : html`<${Empty}>None.<//>`}</section>
    ${!!data?.ladder?.length && html`<section><div class="head"><h2>Recovery</h2></div><ol>${data.ladder.map((s) => html`<li><${Text}>${typeof s === "string" ? s : JSON.stringify(s)}<//></li>`)}</ol></section>`}
    <section><div class="head"><h2>Takes and makes</h2></div><dl class="facts two"><${Fact} term="takes">${(mine?.types || data?.takes || []).map(kind).join(", ") || "everything"}<//><${Fact} term="makes">${(data?.makes || []).map(kind).join(", ") || "nothing so far"}<//></dl>
      ${mine && html`<p class="empty"><${Text}>${options(mine)}<//></p>`}</section>`}
    <${Failed} error=${data && error} /></aside>`;
}
