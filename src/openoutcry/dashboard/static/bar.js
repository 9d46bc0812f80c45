// The bar: is the firm well, and the switch that stops it.
import { html, useEffect, useRef, useState } from "./dom.js";
import { ask, barred, SILENT_MS, stale, store } from "./store.js";
import { age, clock, Confirm, count, Failed, LEVEL, Mark, plain, span, Text } from "./ui.js";

const HOLD_MS = 1000, AGAIN_MS = 4000, REASON = "halted by operator";
const SAYS = {
  connecting: ["idle", "Connecting", ""],
  "page lost": ["bad", "Page lost", "the page's own process does not answer; what you see is old"],
  silent: ["bad", "Silent", "no pulse: the firm's process is stopped, or its loop is blocked; what you see is old"],
  gone: ["bad", "Gone", "the firm's process has ended; what you see is old"],
  "not running": ["idle", "Not running", "no process has this journal open; what it recorded can be read"],
};

/** The firm's state: its level, its word, and who or what is to blame. */
function verdict() {
  const old = stale();
  if (old) {
    const [level, word, why] = SAYS[old] || ["bad", old, ""];
    return [level, word, store.state.why || why];
  }
  const { halts = [], health = {}, wrong = [], state } = store.pulse;
  const worst = wrong[0]?.sentence || "";
  if (halts.length) return ["halt", "Halted", `${halts[0].scope === "firm" ? "" : halts[0].scope + ": "}${halts[0].reason || "no reason given"}${halts.length > 1 ? ` (and ${halts.length - 1} more)` : ""}`];
  if (state !== "running") return ["warn", state, worst];
  if (health.status && health.status !== "healthy") return [health.status === "degraded" ? "warn" : "bad", health.status, worst || health.findings?.[0]?.message || ""];
  const level = wrong.length ? LEVEL[wrong[0].severity] || "warn" : "ok";
  return [level, { ok: "Running", warn: "Caution", bad: "Trouble" }[level], worst];
}

/** Who has heard the newest kill switch, or the one with this id. */
function heard(id) {
  const told = store.pulse?.heard;
  if (!told || (id && told.id !== id)) return "";
  const rest = told.waiting?.length ? `; waiting for ${told.waiting.map(plain).join(", ")}` : "";
  if (!told.total) return "nobody takes kill switches";
  return `${told.activated === false ? "release " : ""}heard by ${told.heard} of ${told.total} in ${span(told.slowest_ns)}${rest}`;
}

/** A button that acts when it is held for a second, or when Enter is pressed on it twice. */
function Hold({ label, onFire, onTap, off }) {
  const [phase, set] = useState(""), timer = useRef(), heldMs = useRef(0);
  const end = (next = "") => { clearTimeout(timer.current); set(next); };
  useEffect(() => () => clearTimeout(timer.current), []);
  const fire = () => { end(); onFire(); };
  const begin = () => {
    heldMs.current = performance.now();
    set("holding");
    timer.current = setTimeout(fire, HOLD_MS);
  };
  const release = () => {
    if (phase !== "holding") return;
    end();
    if (performance.now() - heldMs.current < 400) onTap?.();
  };
  const key = (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      if (event.repeat) return;
      if (phase === "again") return fire();
      end("again");
      timer.current = setTimeout(() => set(""), AGAIN_MS);
    } else if (event.key === " ") {
      event.preventDefault();
      if (!event.repeat) begin();
    }
  };
  return html`<button class="danger hold ${phase}" disabled=${!!off} title=${off || "Hold for a second, or press Enter twice"}
    onPointerDown=${(e) => !e.button && begin()} onPointerUp=${release} onPointerLeave=${() => phase === "holding" && end()} onPointerCancel=${() => end()}
    onContextMenu=${(e) => e.preventDefault()} onKeyDown=${key} onKeyUp=${(e) => e.key === " " && release()} onBlur=${() => end()}>
    <span aria-live="assertive">${{ holding: "Hold …", again: "Enter again" }[phase] || label}</span></button>`;
}

/** Below the bar, over the screen: what halts, who has heard, and a halt with a reason. */
function Panel({ error, sent, onHalt, onRelease, onClose }) {
  const [reason, set] = useState("");
  const field = useRef(), off = barred(true), { halts = [] } = store.pulse || {};
  useEffect(() => {
    field.current?.focus();
    return () => document.querySelector(".acts .hold")?.focus();
  }, []);
  return html`<section class="panel" aria-label="Halt">
    <button class="bare close" data-close onClick=${onClose}>Close</button>
    ${halts.map((h) => html`<p key=${h.id}><b>Halted</b> ${h.scope === "firm" ? "the whole firm" : html`<${Text}>${h.scope}<//>`}: <${Text}>${h.reason || "no reason given"}<//> <span class="quiet">by <${Text}>${h.by || "unknown"}<//>, for ${age(store.pulse.wall_ns - h.since_ns)}</span></p>`)}
    ${halts.length > 0 && html`<p><button class="small" disabled=${!!barred()} onClick=${onRelease}>Release …</button></p>`}
    <p role="status">${sent.text}${sent.text && heard(sent.id) && ", "}${heard(sent.id)}</p>
    <${Failed} error=${error} />
    <div class="row"><label class="grow">Reason <input ref=${field} value=${reason} placeholder=${REASON} maxlength="300" onInput=${(e) => set(e.target.value)} /></label>
      <${Hold} label="Hold to halt" off=${off} onFire=${() => onHalt(reason || REASON)} /></div>
    <p class="quiet">${off || "Halting stops new orders of the whole firm. Hold the button for a second, or press Enter on it twice."}</p></section>`;
}

/** Ask for the release of what halts: who, and why. */
export function Release({ halts, onClose }) {
  const { releasers = [] } = store.shape || {};
  const [chosen, choose] = useState(halts.map((h) => h.id)), [reason, setReason] = useState(""), [by, setBy] = useState(releasers.includes(store.me?.operator) ? store.me.operator : releasers[0] || "");
  const toggle = (id) => choose(chosen.includes(id) ? chosen.filter((c) => c !== id) : [...chosen, id]);
  return html`<${Confirm} title="Release" verb="Release" ready=${reason.trim() && by && chosen.length} onClose=${onClose}
    why=${barred() || (releasers.length ? "" : "This bus names nobody who may release (kill_switch_releasers): restart it, or release from the program.")}
    onDone=${() => ask("/api/release", { ids: chosen, reason: reason.trim(), by })}>
    ${halts.map((h) => html`<label class="check"><input type="checkbox" checked=${chosen.includes(h.id)} onChange=${() => toggle(h.id)} /><span><${Text}>${h.scope}<//>: <${Text}>${h.reason}<//> <span class="quiet">by <${Text}>${h.by}<//></span></span></label>`)}
    <label>As <select value=${by} onChange=${(e) => setBy(e.target.value)}>${releasers.map((r) => html`<option>${r}</option>`)}</select></label>
    <label>Reason (it is recorded) <input required value=${reason} maxlength="300" onInput=${(e) => setReason(e.target.value)} /></label><//>`;
}

export function Bar() {
  const [open, setOpen] = useState(""), [sent, setSent] = useState({ text: "" }), [error, setError] = useState(null);
  const { pulse, shape, me, pulseMs } = store, [level, word, why] = verdict();
  const halts = (!stale() && pulse?.halts) || [];
  const halt = async (reason) => {
    setOpen("panel"); setError(null); setSent({ text: "Halting …" });
    try {
      const { id, problem } = (await ask("/api/halt", { scope: "firm", reason })).result;
      setSent({ text: "Halted", id });
      if (problem) setError(new Error(problem));
    } catch (failed) { setSent({ text: "" }); setError(failed); }
  };
  const culprit = stale() ? "" : pulse?.wrong?.[0]?.culprit || ""; // the sentence has figures, which would be read out at every pulse
  const pulseAge = pulseMs ? performance.now() - pulseMs : null;
  const told = level === "halt" ? heard() : "";
  return html`<header class="bar">
    <a class="firm" href="/" title=${plain(me?.journal || "")}><${Text}>${shape?.firm || me?.firm || "openoutcry"}<//></a>
    <button class="state ${level}" aria-expanded=${open === "panel"} onClick=${() => setOpen(open ? "" : "panel")} title=${plain(why)}>
      <${Mark} level=${level} /><b>${word}</b><span class="why"><${Text}>${why}<//>${told && html` <span class="told">${told}</span>`}</span></button>
    <span class="sr" role="status">${word}${culprit && `: ${plain(culprit)}`}</span>
    <dl class="dials">
      <${Dial} term="level" level=${{ normal: "ok", warning: "warn" }[pulse?.level] || (pulse?.level ? "bad" : "")}>${pulse?.level || "–"}<//>
      <${Dial} term="queue">${count(pulse?.queue)}<//>
      <${Dial} term="clock">${pulse ? clock(pulse.wall_ns) : "–"}<//>
      <${Dial} term="pulse" level=${pulseAge > SILENT_MS ? "bad" : ""}>${pulseAge == null ? "–" : pulseAge < 1000 ? "now" : age(pulseAge * 1e6) + " ago"}<//></dl>
    ${halts.length > 0 && html`<button class="release" disabled=${!!barred()} title=${barred()} onClick=${() => setOpen("release")}>Release</button>`}
    <span class="acts"><${Hold} label="Halt" off=${barred(true)} onFire=${() => halt(REASON)} onTap=${() => setOpen("panel")} /></span>
    ${open === "panel" && html`<${Panel} error=${error} sent=${sent} onHalt=${halt} onRelease=${() => setOpen("release")} onClose=${() => setOpen("")} />`}
    ${open === "release" && html`<${Release} halts=${halts} onClose=${() => setOpen("")} />`}</header>`;
}
const Dial = ({ term, level, children }) => html`<div class=${level || ""}><dt>${term}</dt><dd>${level && level !== "ok" && html`<${Mark} level=${level} />`}${children}</dd></div>`;
