// The pieces that screens share.
import { html, useEffect, useRef, useState } from "./dom.js";
import { ask } from "./store.js";

const UNITS = [[864e11, "d"], [36e11, "h"], [6e10, "min"], [1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];

/** 12_300_000_000 -> "12 s"; two digits at least below ten. */
export function span(ns) {
  if (ns == null || !(ns >= 0)) return "–";
  const [unit, name] = UNITS.find(([size]) => ns >= size) || [1, "ns"];
  const value = ns / unit;
  return `${value < 9.95 && unit > 1 && unit < 6e10 ? value.toFixed(1) : Math.floor(value)} ${name}`;
}
/** How long something has gone on: in whole seconds, so that it is read while it grows. */
export const age = (ns) => span(ns >= 1e9 ? Math.floor(ns / 1e9) * 1e9 : ns).replace(".0 s", " s");
export const count = (n) => (n == null ? "–" : Math.round(n).toLocaleString("en"));
export const rate = (n) => (n == null ? "–" : n < 9.95 ? n.toFixed(1) : count(n));
export const bytes = (n) => (n == null ? "–" : n < 1e4 ? `${count(n)} B` : n < 1e7 ? `${count(n / 1e3)} kB` : n < 1e10 ? `${count(n / 1e6)} MB` : `${rate(n / 1e9)} GB`);

/** A wall-clock time: the hour of today, or the date too. */
export function clock(ns, fine) {
  if (!ns) return "–";
  const t = new Date(ns / 1e6), two = (n) => String(n).padStart(2, "0");
  const day = t.toDateString() === new Date().toDateString() ? "" : `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} `;
  return `${day}${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}${fine ? "." + String(t.getMilliseconds()).padStart(3, "0") : ""}`;
}

/** Text of others: what would steer a screen is shown as its code. */
export const plain = (text) =>
  String(text ?? "").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
export const Text = ({ children }) => html`<bdi>${plain(children)}</bdi>`;

/** The short name of an event type: SignalEvent -> Signal. */
export const kind = (type) => plain(type).replace(/(.)_?event$/i, "$1");

export function go(address, replace) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  dispatchEvent(new Event("popstate"));
}
/** The address of `path` with these arguments; empty ones are left out. */
export function to(path, args) {
  const query = new URLSearchParams(Object.entries(args || {}).filter(([, v]) => v)).toString();
  return path + (query ? "?" + query : "");
}
export const sub = (name) => "/s/" + encodeURIComponent(name);
export const Name = ({ name, to: address, children }) => html`<a class="name" href=${address || sub(name)} title=${plain(name)}><${Text}>${children || name}<//></a>`;

export const SHAPES = { ok: "M5 1.5a3.5 3.5 0 1 0 .01 0z", warn: "M5 .8 9.6 9.2H.4z", bad: "M1 1h8v8H1z", halt: "M3 0h4l3 3v4l-3 3H3L0 7V3z", idle: "M1 5h8" };
/** The shape of a state; its word stands beside it. */
export const Mark = ({ level }) => html`<svg class="mark ${level}" viewBox="0 0 10 10" aria-hidden="true"><path d=${SHAPES[level] || SHAPES.ok} /></svg>`;
export const LEVEL = { critical: "bad", bad: "bad", warn: "warn" };

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;
export const Failed = ({ error }) => error && html`<p class="failed" role="alert"><${Mark} level="bad" />${" "}${plain(error.message)}</p>`;

/** A table whose columns keep their width. cols: [{head, cell(row), w, num, wide}]; the one without a width takes the rest; `wide` is a class: where there is room only (wide, roomy). `stack`: on a phone the last cell takes a line of its own. */
export function Table({ cols, rows, id, label, empty, row: rowProps, stack }) {
  return html`<table class=${stack ? "stack" : ""} aria-label=${label}>
    <colgroup>${cols.map((c) => html`<col class=${c.wide || ""} style=${c.w ? { width: c.w } : null} />`)}</colgroup>
    <thead><tr>${cols.map((c) => html`<th scope="col" class=${cls(c)} title=${c.title}>${c.head}</th>`)}</tr></thead>
    <tbody>${rows.map((r) => html`<tr key=${id(r)} ...${rowProps ? rowProps(r) : null}>${cols.map((c) => html`<td class=${cls(c)}>${c.cell(r)}</td>`)}</tr>`)}</tbody></table>
    ${!rows.length && html`<${Empty}>${empty}<//>`}`;
}
const cls = (c) => (c.num ? "num " : "") + (c.wide || "");

/** A term and its value, in a list of such. */
export const Fact = ({ term, children }) => html`<div><dt>${term}</dt><dd>${children}</dd></div>`;

/** A dialog over the page: asks before something is done. `fields` are drawn into it; `onDone` returns a promise. */
export function Confirm({ title, verb, why, danger, onDone, onClose, ready = true, children }) {
  const box = useRef(), [busy, setBusy] = useState(false), [error, setError] = useState(null);
  useEffect(() => { box.current.showModal(); }, []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try { await onDone(); onClose(); } catch (failed) { setError(failed); }
    setBusy(false);
  };
  return html`<dialog ref=${box} onClose=${onClose} aria-label=${title}><form onSubmit=${submit}>
    <h2>${title}</h2>${children}<${Failed} error=${error} />
    ${why && html`<p class="quiet">${why}</p>`}
    <p class="row end"><button type="button" onClick=${() => box.current.close()}>Cancel</button>
      <button class=${danger ? "danger" : "main"} disabled=${busy || !ready || !!why}>${busy ? "…" : verb}</button></p></form></dialog>`;
}

/** A button for one action at once: posts, says what came back. */
export function Do({ path, body, barred, children, label }) {
  const [said, set] = useState(null);
  const act = async () => {
    set("…");
    try { await ask(path, body); set("done"); } catch (error) { set(error.message); }
  };
  return html`<button class="small" disabled=${!!barred} title=${barred || label} aria-label=${label} onClick=${act}>${children}</button>${said && html` <small role="status">${plain(said)}</small>`}`;
}
