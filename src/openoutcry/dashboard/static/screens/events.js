// Events: the newest as they come, or those that the filters in the address ask for; one of them in full.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { ask, stale, store, useJson, useStore, useTail } from "../store.js";
import { bytes, clock, count, Empty, Failed, Fact, go, kind, Name, plain, Table, Text, to } from "../ui.js";

const FILTERS = [["text", "text"], ["type", "type"], ["agent", "agent"], ["symbol", "symbol"], ["round", "round"], ["id", "event id"], ["cause", "caused by"], ["since", "since"], ["until", "until"]];
// Which of the newest events fit can be told here for these alone; the others are asked for.
const TOLD = { text: (e, v) => plain(e.said).toLowerCase().includes(v.toLowerCase()), type: (e, v) => e.type === v || kind(e.type).toLowerCase() === kind(v).toLowerCase(), agent: (e, v) => e.source === v, symbol: (e, v) => e.symbol === v, round: (e, v) => e.round === v };
const PAGE = 100, ENOUGH = 25, SEARCH_MS = 60_000;

/** Nanoseconds since 1970 of a time that somebody has written, in UTC unless it says otherwise; as it is if it is none. */
const moment = (v) => {
  const zoned = /T.*(Z|[+-]\d\d:?\d\d)$/i.test(v) || !/:/.test(v), ms = /^\d*$/.test(v) ? NaN : Date.parse(zoned ? v : v + "Z");
  return Number.isNaN(ms) ? v : `${ms}000000`;
};
const written = (v) => (v || "").trim().replace(" ", "T");

/** Without the ids that stand in the event's detail, and in all that follows from it. */
const brief = (said) => said.replace(/^(?:(?:correlation|causation|round)_id=\S*\s+)+/, "");

const COLS = [
  { head: "time", w: "104px", cell: (e) => html`<time title=${new Date(e.wall_ns / 1e6).toISOString()}>${clock(e.wall_ns, true).split(" ").pop()}</time>` },
  { head: "type", w: "160px", cell: (e) => kind(e.type) },
  { head: "from", w: "112px", wide: "wide", cell: (e) => html`<${Text}>${e.source}<//>` },
  { head: "symbol", w: "72px", wide: "wide", cell: (e) => html`<${Text}>${e.symbol}<//>` },
  { head: "what", cell: (e) => html`<${Text}>${brief(e.said)}<//>` },
];

function useHistory(filters) {
  const query = to("/api/events", { ...filters, since: moment(written(filters.since)), until: moment(written(filters.until)), limit: PAGE });
  const path = `${query}&n=${store.follows}`, got = useJson(path), kept = useRef({});
  if (got.data || kept.current.query !== query) kept.current = { query, path, data: got.data };
  const first = { ...got, data: kept.current.data };
  const [more, set] = useState({ path, events: [], next: null, busy: false, error: null });
  const own = more.path === kept.current.path ? more : { path: kept.current.path, events: [], next: null };
  const next = own.events.length || own.asked ? own.next : first.data?.next;
  const older = async () => {
    set({ ...own, busy: true });
    try {
      const got = await ask(query + `&before=${next}`);
      set({ ...own, busy: false, error: null, events: [...own.events, ...got.events], next: got.next, asked: true, scanned: (own.scanned || 0) + got.scanned });
    } catch (error) { set({ ...own, busy: false, error }); }
  };
  const scanned = (first.data?.scanned || 0) + (own.scanned || 0), found = (first.data?.events.length || 0) + own.events.length;
  // The page's process searches a piece at a time: the next is asked for until enough is found, for a while.
  const began = useRef({});
  if (began.current.query !== query) began.current = { query, atMs: performance.now() };
  const goesOn = next != null && !first.error && !own.error && found < ENOUGH && performance.now() - began.current.atMs < SEARCH_MS;
  useEffect(() => { if (first.data && goesOn && !own.busy) older(); });
  return { events: first.data ? [...first.data.events, ...own.events] : null, error: first.error || own.error, next, older, busy: own.busy, goesOn, scanned, head: first.data?.head };
}

function Detail({ pos, query }) {
  const { data, error } = useJson(`/api/event?pos=${encodeURIComponent(pos)}`), [whole, set] = useState(null), title = useRef();
  useEffect(() => {
    title.current?.focus({ preventScroll: true });
    return () => requestAnimationFrame(() => document.activeElement === document.body && document.querySelector('[aria-label="Events"] a')?.focus({ preventScroll: true }));
  }, []);
  const shown = whole?.pos === pos ? whole.data : data;
  const said = useMemo(() => shown && pieces(text(shown.json)).map((piece) => html`<${Text}>${piece}<//>`), [shown]); // drawn once, however long
  const more = async () => set({ pos, data: await ask(`/api/event?pos=${encodeURIComponent(pos)}&whole=1`).catch((e) => ({ ...data, json: e.message })) });
  const related = (field, value) => value && html`<a class="name" href=${to("/events", { [field]: value })}><${Text}>${value}<//></a>`;
  return html`<aside class="pane detail" aria-label="Event"><div class="head"><h1 tabindex="-1" ref=${title}>${data ? kind(data.type) : "Event"}</h1><span class="quiet">position ${plain(pos)}</span><a class="rest" data-close href=${to("/events", { ...query, pos: "" })}>Close</a></div>
    <${Failed} error=${error} />${data && html`<dl class="facts"><${Fact} term="time">${clock(data.wall_ns, true)}<//><${Fact} term="from">${data.source ? html`<${Name} name=${data.source} />` : "–"}<//><${Fact} term="symbol">${data.symbol ? html`<${Text}>${data.symbol}<//>` : "–"}<//></dl>
      <dl class="facts mono"><${Fact} term="id"><${Text}>${data.id}<//><//><${Fact} term="caused by">${related("id", data.cause) || "–"}<//><${Fact} term="why"><a class="name" href=${"/why/" + encodeURIComponent("#" + pos)}>explain</a><//><${Fact} term="came of it"><a class="name" href=${to("/events", { cause: data.id })}>look</a><//><${Fact} term="round">${data.round ? html`<a class="name" href=${"/rounds/" + encodeURIComponent(data.round)}><${Text}>${data.round}<//></a>` : "–"}<//></dl>
      <pre>${said}</pre>${shown.cut && html`<p class="empty">${bytes(shown.full)} in all; the first 4 kB are shown. <button class="small" onClick=${more}>Show all of it</button></p>`}`}</aside>`;
}
// A browser breaks no word of millions of letters: it stands in pieces, each on lines of its own.
const pieces = (all) => all.match(/[^]{1,5000}/gu) || [];
const text = (json) => {
  if (typeof json !== "string") return JSON.stringify(json, null, 2);
  try { return JSON.stringify(JSON.parse(json), null, 2); } catch { return json; }
};

function Filters({ query }) {
  const submit = (event) => {
    event.preventDefault();
    go(to("/events", Object.fromEntries(new FormData(event.target))));
  };
  const types = [...new Set((useStore().shape?.subscriptions || []).flatMap((s) => s.types))].sort();
  const [all, setAll] = useState(Object.keys(query).some((f) => f !== "text" && f !== "pos"));
  return html`<form class=${"filters" + (all ? " all" : "")} role="search" key=${JSON.stringify({ ...query, pos: 0 })} onSubmit=${submit}>
    ${FILTERS.map(([field, label]) => html`<label>${label}<input name=${field} defaultValue=${query[field] || ""} list=${field === "type" ? "types" : null} data-search=${field === "text" ? "" : null} title=${/since|until/.test(field) ? "For example 2026-11-30 14:30, UTC" : null} autocomplete="off" /></label>`)}
    <datalist id="types">${types.map((t) => html`<option value=${t} />`)}</datalist><button type="button" class="fold" aria-expanded=${all} onClick=${() => setAll(!all)}>Filters</button><button>Search</button></form>`;
}

export default function Events({ query }) {
  const { pos, ...rest } = query, filters = Object.fromEntries(FILTERS.map(([f]) => [f, rest[f]]).filter(([, v]) => v));
  const follows = Object.keys(filters).every((f) => TOLD[f]) && !stale();
  useTail(follows);
  const { tail, tailed } = useStore(), history = useHistory(filters), list = useRef(), [held, hold] = useState(null);
  const fits = tail.filter((e) => Object.entries(filters).every(([f, v]) => TOLD[f]?.(e, v)));
  const newest = history.events?.[0]?.pos ?? -1, fresh = follows ? fits.filter((e) => e.pos > newest) : [];
  const missed = follows ? store.passed + Math.max(0, store.tailFrom - (history.head ?? store.tailFrom)) : 0;
  const shown = held ? fresh.filter((e) => e.pos <= held.pos) : fresh, waiting = fresh.length - shown.length;
  const scrolled = (event) => {
    const top = event.target.scrollTop < 8;
    if (top && held) hold(null);
    else if (!top && !held) hold({ pos: fresh[0]?.pos ?? newest, tailed });
  };
  const resume = () => { hold(null); list.current.scrollTop = 0; };
  const open = (e) => to("/events", { ...rest, pos: String(e.pos) });
  const cols = COLS.map((c, i) => (i === 1 ? { ...c, cell: (e) => html`<a class="name" href=${open(e)}>${kind(e.type)}</a>` } : c));
  return html`<div class=${"events" + (pos ? " open" : "")}><${Filters} query=${query} />
    <section class="pane" ref=${list} onScroll=${scrolled} tabindex="0" aria-label="Events, newest first">
      ${held && html`<button class="newer" onClick=${resume}>${waiting ? `${waiting}${waiting >= 500 ? " or more" : ""} newer` : "paused"}: back to the newest</button>`}
      ${missed > 0 && html`<p class="empty">${count(missed)} more came faster than they are listed; a search finds them.</p>`}
      <${Table} stack label="Events" cols=${cols} rows=${[...shown, ...(history.events || [])]} id=${(e) => e.pos} row=${(e) => ({ "aria-selected": String(e.pos) === pos, onClick: (event) => { if (!event.target.closest("a") && !String(getSelection())) go(open(e)); } })}
        empty=${history.error ? plain(history.error.message) : !history.events ? "Asking …" : history.goesOn ? `Searching: ${count(history.scanned)} were looked at so far.` : Object.keys(filters).length ? `No event fits${history.next != null ? " among the newest" : ""}; ${count(history.scanned)} were looked at.` : "No event so far."} />
      ${history.next != null && html`<p class="empty"><button disabled=${history.busy || history.goesOn} onClick=${history.older}>Older</button></p>`}
      <${Failed} error=${history.events && history.error} /></section>
    ${pos && html`<${Detail} pos=${pos} query=${rest} key=${pos} />`}</div>`;
}
