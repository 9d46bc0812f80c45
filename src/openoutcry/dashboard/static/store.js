// What the stream has said so far. Screens read it through useStore(), which draws them again at each message.
import { useEffect, useState } from "./dom.js";

export const SILENT_MS = 1750; // with the ticks of 250 ms it is said within two seconds
export const store = {
  me: null, // role, csrf, firm, journal, version
  shape: null,
  pulse: null,
  rounds: { open: [], released: [] },
  state: { live: "", why: "" }, // what the page's process says of the firm's: up, silent, gone, never
  heardMs: 0, // performance.now() of the last message of any kind
  pulseMs: 0, // and of the last pulse
  openers: new Set(), // who opens rounds: answers go to them through the barrier
  edges: new Map(), // "source\0type" -> {source, type, rate}
  tail: [], // newest events, newest first, while a screen follows
  tailed: 0, // how many have come since it follows
  tailFrom: 0, // behind which position they begin
  tailHead: 0, // up to which they reach
  passed: 0, // how many have come in between and are not among them
  follows: 0, // how often following has begun anew: what came before then is to be asked for
  refused: "", // why there is no stream at all
};
const TAIL_MAX = 500, ROUNDS_MAX = 400;
const listeners = new Set();
let source = null, followers = 0;

const tell = () => listeners.forEach((listener) => listener());

/** Draw the calling component again whenever something arrives, and four times a second for the ages. */
export function useStore() {
  const [, set] = useState(0);
  useEffect(() => {
    const draw = () => set((n) => n + 1);
    listeners.add(draw);
    return () => listeners.delete(draw);
  }, []);
  return store;
}

/** Follow the newest events while the calling component is on the screen. */
export function useTail(wanted) {
  useEffect(() => {
    if (!wanted) return;
    if (!followers++) forgetTail();
    connect();
    return () => { followers -= 1; connect(); };
  }, [wanted]);
}

/** Ask the page's process for JSON. Throws an Error with its sentence. */
export async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, body && {
      method: "POST",
      headers: { "content-type": "application/json", "x-openoutcry": store.me?.csrf || "" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The page's own process does not answer. Start it again: openoutcry page JOURNAL");
  }
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  throw Object.assign(new Error(said.error || `The page's process answered ${answer.status}.`), { status: answer.status });
}

/** Ask for `path` again whenever it changes, and every `every` ms if given. Keeps the last answer meanwhile. */
export function useJson(path, every) {
  const [got, set] = useState({ path: null, data: null, error: null });
  useEffect(() => {
    if (!path) return;
    let over = false, timer;
    const load = async () => {
      try {
        const data = await ask(path);
        if (!over) set({ path, data, error: null });
      } catch (error) {
        if (!over) set((had) => ({ path, data: had.path === path ? had.data : null, error }));
      }
      if (!over && every) timer = setTimeout(load, document.hidden ? every * 5 : every);
    };
    load();
    return () => { over = true; clearTimeout(timer); };
  }, [path, every]);
  return got.path === path ? got : { data: null, error: null };
}

const nowS = () => (store.pulse ? store.pulse.now_ns / 1e9 : 0);

function forgetTail() {
  store.tail = [];
  store.follows += 1;
  store.tailed = store.tailFrom = store.tailHead = store.passed = 0;
}

function addFlows(flows, seconds) {
  for (const known of store.edges.values()) known.rate *= 0.8;
  for (const { source: from, type, count } of flows || []) edge(from, type).rate += (0.2 * count) / Math.max(seconds, 0.05);
}

function edge(from, type) {
  const key = from + "\0" + type;
  if (!store.edges.has(key)) store.edges.set(key, { source: from, type, rate: 0 });
  return store.edges.get(key);
}

let askedMs = -1e9;
function findOpeners() {
  if (performance.now() - askedMs < 5000) return;
  askedMs = performance.now();
  ask("/api/rounds?limit=20").then(({ rounds }) => { rounds.forEach((r) => r.opened_by && store.openers.add(r.opened_by)); }, () => {});
}

const taken = {
  state(said) {
    store.state = said;
  },
  shape(said) {
    if (store.shape && store.shape.session !== said.session) { store.edges.clear(); store.openers.clear(); forgetTail(); }
    store.shape = said;
    (said.edges || []).forEach(([from, type]) => edge(from, type));
  },
  pulse(said) {
    const before = nowS();
    store.pulse = said;
    store.pulseMs = performance.now();
    for (const [name, row] of Object.entries(said.rows)) row.per_s = said.per_s?.[name];
    addFlows(said.flows, nowS() - before);
  },
  rounds(said) {
    if (!store.openers.size && said.released.length) findOpeners();
    store.rounds = { open: said.open, released: [...said.released.reverse(), ...store.rounds.released].slice(0, ROUNDS_MAX) };
  },
  events({ events, after, passed_over, head }) {
    if (after > head) forgetTail(); // another journal is there now
    if (store.tailHead) store.passed += passed_over + Math.max(0, after - store.tailHead);
    else store.tailFrom = (events[0]?.pos ?? head + 1) - 1;
    store.tailHead = head;
    store.tailed += events.length;
    store.tail = [...events.reverse(), ...store.tail].slice(0, TAIL_MAX);
  },
};

/** Open the stream, with the newest events if a screen follows them. */
export function connect() {
  source?.close();
  if (document.hidden) return; // a browser has six connections to a page: they are for the tabs that are looked at
  source = new EventSource("/api/stream" + (followers ? "?tail=1" : ""));
  for (const [kind, take] of Object.entries(taken)) {
    source.addEventListener(kind, (message) => {
      take(JSON.parse(message.data));
      store.heardMs = performance.now();
      tell();
    });
  }
  source.onerror = () => { if (source.readyState === 2) whoAmI(); };
}

document.addEventListener("visibilitychange", () => {
  if (!store.me || store.refused) return;
  store.heardMs = store.pulseMs = 0;
  forgetTail();
  connect();
});

/** Ask who is looking; a cookie that is not good any more ends here. */
export async function whoAmI() {
  try {
    store.me = await ask("/api/me");
    store.refused = "";
    connect();
  } catch (error) {
    store.refused = error.status ? error.message : "";
    setTimeout(whoAmI, 2000);
  }
  tell();
}

/** Why what the screens show is not now: "" if it is. */
export function stale() {
  const { state, heardMs, pulseMs } = store;
  if (!heardMs) return "connecting";
  if (source.readyState !== 1 && performance.now() - heardMs > SILENT_MS) return "page lost";
  if (state.live !== "up") return { never: "not running", "": "connecting" }[state.live] || state.live;
  if (!store.pulse) return "connecting";
  return performance.now() - pulseMs > SILENT_MS ? "silent" : "";
}

/** Why an action may not be done, in words; "" if it may. Halting is tried as long as there may be a process to hear it. */
export function barred(halting) {
  if (store.me?.role !== "act") return "Look only: log in with the address for acting.";
  const old = stale();
  return old && !(halting && /silent|lost|connecting/.test(old)) ? `No process to act on (${old}).` : "";
}

setInterval(tell, 250);
