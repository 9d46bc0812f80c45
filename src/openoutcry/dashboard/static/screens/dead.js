// Dead letters: what was given up, by subscription and error; try one, deliver all of a kind again, or drop them.
import { html, useEffect, useRef, useState } from "../dom.js";
import { ask, barred, store, useJson, useStore } from "../store.js";
import { clock, Confirm, count, Empty, Failed, go, Name, plain, Table, Text, to } from "../ui.js";

const AGAIN_MS = 2000;
const keyOf = (group) => group.subscription + "\0" + group.error;

function Example({ example }) {
  return html`<h3>The newest: <a href=${to("/events", { pos: example.position })}>${plain(example.event_type)}</a>, given up after ${count(example.attempts)} ${example.attempts === 1 ? "attempt" : "attempts"} (${plain(example.reason)})</h3>
    <pre class="short"><${Text}>${example.event}<//></pre>
    ${example.error.includes("\n") && html`<h3>Error</h3><pre class="short"><${Text}>${example.error}<//></pre>`}<h3>Traceback</h3><pre class="short"><${Text}>${example.traceback || "none was kept"}<//></pre>`;
}

/** How many letters a group has; not all of them need have been read. */
const many = (group) => count(group.count) + (group.more ? " or more" : "");

function Actions({ group, onAsk, onDone }) {
  const why = barred(), few = { subscription: group.subscription, error: group.error };
  const [said, set] = useState(null);
  const tryOne = async () => {
    set(null);
    try { onDone("Delivered again:", (await ask("/api/redrive", { ...few, one: true })).result); } catch (error) { set(error); }
  };
  return html`<p class="row"><button disabled=${!!why} title=${why} onClick=${tryOne}>Try one first</button>
    <button disabled=${!!why} title=${why} onClick=${() => onAsk({ do: "redrive" })}>Redrive all ${many(group)}</button>
    <button class="danger" disabled=${!!why} title=${why} onClick=${() => onAsk({ do: "drop" })}>Drop all ${many(group)}</button></p>
    ${why && html`<p class="quiet">${why}</p>`}<${Failed} error=${said} />`;
}

function Ask({ what, group, onClose, onDone }) {
  const [reason, setReason] = useState("");
  const title = `${many(group)} ${group.count === 1 && !group.more ? "letter" : "letters"} of ${plain(group.subscription)}`, which = { subscription: group.subscription, error: group.error };
  if (what.do === "redrive") return html`<${Confirm} title=${`Deliver ${title} again?`} verb="Redrive" why=${barred()} onClose=${onClose} onDone=${async () => onDone("Delivered again:", (await ask("/api/redrive", which)).result)}><p>Each goes to ${plain(group.subscription)} alone. One that fails again stays a letter.</p><//>`;
  return html`<${Confirm} title=${`Drop ${title}?`} verb="Drop" danger why=${barred()} ready=${!!reason.trim()} onClose=${onClose}
    onDone=${async () => onDone("Dropped:", (await ask("/api/drop", { ...which, reason: reason.trim() })).result)}>
    <p>They are not handled, and cannot be brought back. The events stay in the journal.</p>
    <label>Reason (it is recorded) <input required maxlength="300" value=${reason} onInput=${(e) => setReason(e.target.value)} /></label><//>`;
}

function Group({ group, now, tried, onTried }) {
  const [asking, setAsking] = useState(null), done = (verb, done) => onTried({ verb, done, before: now }), title = useRef();
  useEffect(() => title.current.focus({ preventScroll: true }), []);
  return html`<section class="sheet pane" aria-label="Dead letters of one kind"><div class="head"><a href="/dead" data-close>All dead letters</a></div>
    <h1 tabindex="-1" ref=${title}><${Name} name=${group.subscription} /></h1><p class="wrap"><${Text}>${group.said}<//></p>
    <${Tried} tried=${tried} now=${now} />
    ${group.count > 0 && html`<${Actions} group=${group} onAsk=${setAsking} onDone=${done} />
    <p class="quiet">${many(group)} from ${clock(group.first_ns)} to ${clock(group.last_ns)}. <a href=${to("/events", { agent: group.subscription })}>Events of ${plain(group.subscription)}</a></p><${Example} example=${group.example} />`}
    ${asking && html`<${Ask} what=${asking} group=${group} onClose=${() => setAsking(null)} onDone=${done} />`}</section>`;
}

/** What was done last, and the letters of the subscription before and now: whatever their errors are by now. */
function Tried({ tried, now }) {
  return tried && html`<p role="status">${tried.verb} ${count(tried.done)}. Letters of this subscription: ${count(tried.before)} before, ${count(now)} now.</p>`;
}

const COLUMNS = [
  { head: "subscription", w: "24%", cell: (g) => html`<${Text}>${g.subscription}<//>` },
  { head: "error", cell: (g) => html`<a class="name" href=${to("/dead", { subscription: g.subscription, error: g.error })} title=${plain(g.said)}><${Text}>${g.said}<//></a>` },
  { head: "count", w: "64px", num: true, cell: (g) => count(g.count) + (g.more ? "+" : "") },
  { head: "first", w: "168px", num: true, wide: "roomy", cell: (g) => clock(g.first_ns) },
  { head: "last", w: "168px", num: true, wide: "wide", cell: (g) => clock(g.last_ns) },
];

/** The groups: of a subscription that is asked for all that there is time for, where the others took it up. */
function useGroups(name) {
  const all = useJson("/api/dead", AGAIN_MS), isPart = all.data?.complete === false;
  const own = useJson(name && isPart ? to("/api/dead", { subscription: name }) : null, AGAIN_MS);
  if (!all.data) return { ...all, groups: [], isRead: false };
  const rest = own.data ? all.data.groups.filter((g) => g.subscription !== name) : all.data.groups;
  const groups = [...rest.map((g) => ({ ...g, more: isPart })), ...(own.data?.groups || []).map((g) => ({ ...g, more: !own.data.complete }))];
  return { ...all, groups, isRead: !isPart || (!!name && own.data?.complete === true) };
}

export default function Dead({ query }) {
  useStore();
  const got = useGroups(query.subscription), { groups } = got, [tried, setTried] = useState({}), wanted = query.error && { subscription: query.subscription, error: query.error };
  const listed = query.subscription && !wanted ? groups.filter((g) => g.subscription === query.subscription) : groups;
  const found = wanted && groups.find((g) => keyOf(g) === keyOf(wanted));
  const chosen = found || (wanted && got.data && { ...wanted, said: query.error, count: 0 });
  const now = !chosen ? 0 : (!got.isRead && store.pulse?.rows[chosen.subscription]?.dead) || groups.reduce((sum, g) => sum + (g.subscription === chosen.subscription ? g.count : 0), 0);
  const none = got.isRead ? "Nothing was given up." : "None is among the letters that there was time to read.";
  return html`<div class=${"dead" + (chosen ? " open" : "")}><section class="pane" aria-label="Dead letters">
    <${Failed} error=${got.error} />
    ${!got.data ? !got.error && html`<${Empty}>Reading the dead letters …<//>` : html`
      <div class="head"><h1>${count(got.data.total)} dead ${got.data.total === 1 ? "letter" : "letters"}${got.data.complete || got.data.where === "memory" ? "" : " at least"}</h1><span class="quiet">kept in ${got.data.where === "memory" ? "the firm's memory: they end with its process" : "the journal"}${got.data.complete ? "" : "; the oldest are listed"}</span>
        ${listed !== groups && html`<span>of <${Name} name=${query.subscription} /></span><a href="/dead">All</a>`}</div>
      <${Table} label="Dead letters by subscription and error" cols=${COLUMNS} rows=${listed} id=${keyOf} empty=${none}
        row=${(g) => ({ class: "opens", "aria-selected": chosen && keyOf(g) === keyOf(chosen) ? "true" : null, onClick: (e) => e.target.closest("a") || go(to("/dead", { subscription: g.subscription, error: g.error })) })} />`}</section>
    ${chosen && html`<${Group} key=${keyOf(chosen)} group=${chosen} now=${now} tried=${tried[keyOf(chosen)]} onTried=${(what) => setTried((all) => ({ ...all, [keyOf(chosen)]: what }))} />`}
    ${wanted && got.data && !found && !tried[keyOf(wanted)] && html`<p class="quiet head" role="status">${got.isRead ? "There are none of this kind now." : none}</p>`}</div>`;
}
