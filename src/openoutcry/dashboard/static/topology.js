// Who sends what to whom, left to right. The layout is worked out anew when the firm changes, not when its numbers do.
import { html, useLayoutEffect, useMemo, useRef, useState } from "./dom.js";
import { layout } from "./layout.js";
import { store } from "./store.js";
import { age, count, Empty, kind, plain, rate, SHAPES, sub, to } from "./ui.js";

const ALIKE_MIN = 3, WHOLE_MAX = 60, WIDTH = 132, HEIGHT = 56, LINE = 18, LINES_MAX = 20, SCALE_MAX = 1.2, SCALE_READ = 0.85;
const CONTROL = /kill.?switch/i;
const RANK = { warn: 1, bad: 2 };

/** What subscriptions that take the same are called together: strategies, what their names have in common, or what they take. */
function together(names, subs, roster) {
  if (names.every((n) => subs.get(n).agent || roster.has(n))) return "strategies";
  let prefix = names[0];
  for (const n of names) while (!n.startsWith(prefix)) prefix = prefix.slice(0, -1);
  prefix = prefix.replace(/[\W_\d]+$/, "");
  return prefix.length > 2 ? prefix : `on ${subs.get(names[0]).types.map(kind).join(", ") || "all"}`;
}

/** The nodes: single subscriptions, those alike as one, and who publishes without having subscribed. */
function nodesOf(shape, sources, { open, near }) {
  const subs = new Map(shape.subscriptions.map((s) => [s.name, s])), roster = new Set(shape.roster), alike = new Map(), nodes = new Map(), home = new Map();
  const most = subs.size > WHOLE_MAX ? 1 : ALIKE_MIN;
  for (const s of subs.values()) {
    const key = JSON.stringify([[...s.types].sort(), !!(s.agent || roster.has(s.name))]);
    alike.set(key, [...(alike.get(key) || []), s.name]);
  }
  const used = new Set();
  const put = (id, names, group) => {
    nodes.set(id, { id, names, group });
    names.forEach((n) => home.set(n, id));
  };
  for (const names of alike.values()) {
    let label = together(names, subs, roster);
    while (used.has(label)) label += "′";
    if (names.length < most || names.length === 1) names.forEach((n) => put(n, [n]));
    else { used.add(label); put("group " + label, names, label); }
  }
  if (near && home.has(near) && home.get(near) !== near) { // the one looked at stands apart from those like it
    const group = nodes.get(home.get(near));
    group.names = group.names.filter((n) => n !== near);
    put(near, [near]);
  }
  const outside = sources.filter((s) => !home.has(s));
  if (outside.length < ALIKE_MIN) outside.forEach((s) => { put("from " + s, [s]); nodes.get("from " + s).source = true; });
  else { put("group publishers", outside, "publishers"); nodes.get("group publishers").source = true; }
  const unfolded = nodes.get("group " + open);
  if (unfolded) unfolded.lines = Math.min(unfolded.names.length, LINES_MAX + 1);
  return { nodes, home, subs };
}

/** The arrows between nodes: from whoever has published a type to all that take it, and from the roster to who opens rounds.
 * Kill switches, which all take, are left out. */
function linksOf({ nodes, home, subs }, roster) {
  const links = new Map(), takers = [...subs.values()].filter((s) => s.types.length);
  const link = (from, at, flow) => {
    if (!from || !at || from === at) return;
    const key = JSON.stringify([from, at]);
    if (!links.has(key)) links.set(key, { key, from, to: at, flows: new Set() });
    links.get(key).flows.add(flow);
  };
  for (const flow of store.edges.values()) {
    const from = home.get(flow.source);
    if (!from || CONTROL.test(flow.type)) continue;
    (nodes.get(from).makes ||= new Set()).add(flow.type);
    for (const s of takers) if (s.types.includes(flow.type)) link(from, home.get(s.name), flow);
    if (flow.type === "signal" && roster.includes(flow.source)) store.openers.forEach((o) => link(from, home.get(o), flow));
  }
  return links;
}

function neighbourhood(graph, near) {
  const { nodes, links, home } = graph, centre = home.get(near);
  if (!centre) return graph;
  const kept = new Set([centre]);
  for (const l of links.values()) if (l.from === centre || l.to === centre) kept.add(l.from).add(l.to);
  return { ...graph, nodes: new Map([...nodes].filter(([id]) => kept.has(id))), links: new Map([...links].filter(([, l]) => l.from === centre || l.to === centre)) };
}

/** Places: left to right, with the more air the better, where that can be read in a pane of this size; else top to bottom. */
function place({ nodes, links }, width, height) {
  const cells = [...nodes.values()].map((n) => ({ id: n.id, width: WIDTH, height: HEIGHT + LINE * (n.lines || 0) }));
  const tried = (width < 600 ? [[true, 14]] : [[false, 64], [false, 40], [false, 18], [true, 24]]).map(([down, gap]) => {
    const laid = layout(cells, [...links.values()], { down, gap, step: 36 });
    const { x, y, width: w, height: h } = laid.box, box = { x: x - 6, y: y - 8, width: w + 16, height: h + 14 };
    return { ...laid, down, box, scale: Math.min(SCALE_MAX, width / box.width, height / box.height) };
  });
  return tried.find((t) => t.scale >= SCALE_READ) || tried.reduce((a, b) => (b.scale > a.scale ? b : a));
}

function useSize(box) {
  const [size, set] = useState(null);
  useLayoutEffect(() => {
    const watch = new ResizeObserver(([{ contentRect: r }]) => set([Math.round(r.width / 40) * 40, Math.round(r.height / 40) * 40].join()));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return size && size.split(",").map(Number);
}

/** A line through points that leaves and reaches each of them along the stream. */
const path = (points, down) => points.map((p, i) => {
  if (!i) return `M${p.x} ${p.y}`;
  const o = points[i - 1], mx = (o.x + p.x) / 2, my = (o.y + p.y) / 2;
  return o.x === p.x || o.y === p.y ? `L${p.x} ${p.y}` : down ? `C${o.x} ${my} ${p.x} ${my} ${p.x} ${p.y}` : `C${mx} ${o.y} ${mx} ${p.y} ${p.x} ${p.y}`;
}).join("");
const cut = (text, most) => { const t = plain(text); return t.length > most ? t.slice(0, most - 1) + "…" : t; };
const weight = (r) => (r < 0.05 ? 0 : r < 2 ? 1 : r < 20 ? 2 : r < 200 ? 3 : 4);

/** Who of those in trouble is named: the first of the worst. */
const worst = (ill, levels) => plain(ill.find((n) => levels[n] === "bad") || ill[0]);

export function Topology({ rows, levels, chosen, query }) {
  const box = useRef(), size = useSize(box), [hover, setHover] = useState("");
  const { shape, edges } = store, sources = [...new Set([...edges.values()].map((e) => e.source))].sort();
  // Arrows between nodes that are there already come without moving anything; new nodes, or a new shape, do.
  const known = edges.size && [...edges.keys()].sort().join("\u0001");
  const openers = [...store.openers].join("\u0001");
  const near = query.near || (shape.subscriptions.length > WHOLE_MAX ? chosen : "");
  const graph = useMemo(() => {
    const whole = nodesOf(shape, sources, { open: query.open, near });
    const linked = { ...whole, links: linksOf(whole, shape.roster) };
    return near ? neighbourhood(linked, near) : linked;
  }, [shape.number, shape.session, known, query.open, near, openers]);
  const settled = useRef({}), crowded = graph.nodes.size > WHOLE_MAX;
  const key = size && JSON.stringify([size, [...graph.nodes.values()].map((n) => [n.id, n.lines]), shape.number, shape.session]);
  if (key && !crowded && (settled.current.key !== key || performance.now() - settled.current.sinceMs < 5000 && settled.current.links !== graph.links.size)) {
    const sinceMs = settled.current.key === key ? settled.current.sinceMs : performance.now();
    settled.current = { key, sinceMs, links: graph.links.size, ...place(graph, ...size) };
  }
  const { places, paths, down, box: room } = settled.current;
  if (crowded) return html`<div class="canvas" ref=${box}><${Empty}>${count(graph.nodes.size)} that all differ are too many for a picture. Choose one in the list, and its neighbours are drawn.<//></div>`;
  const lit = hover || (chosen && graph.home.get(chosen)) || "";
  return html`<div class="canvas" ref=${box}>${places && html`<svg class=${"graph" + (lit ? " traced" : "")} viewBox=${`${room.x} ${room.y} ${room.width} ${room.height}`} style=${{ maxWidth: room.width * SCALE_MAX + "px", maxHeight: room.height * SCALE_MAX + "px" }} role="group" aria-label="Who sends what to whom">
    <defs><marker id="tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path class="arrow" d="M0 .5 8 4 0 7.5z" /></marker></defs>
    ${[...graph.links.values()].map((l) => html`<${Link} key=${l.key} link=${l} points=${paths.get(l.key) || [places.get(l.from), places.get(l.to)]} down=${down} lit=${l.from === lit || l.to === lit} />`)}
    ${[...graph.nodes.values()].map((n) => html`<${Node} key=${n.id} node=${n} at=${places.get(n.id)} rows=${rows} levels=${levels} chosen=${graph.home.get(chosen) === n.id && chosen} query=${query} onHover=${setHover} />`)}</svg>`}</div>`;
}

function Link({ link, points, down, lit }) {
  const flows = [...link.flows], total = flows.reduce((sum, f) => sum + f.rate, 0);
  return html`<path class=${`link w${weight(total)}${lit ? " lit" : ""}`} d=${path(points, down)} marker-end="url(#tip)"><title>${flows.map((f) => `${kind(f.type)} ${rate(f.rate)}/s`).join(", ")}</title></path>`;
}

function Node({ node, at, rows, levels, chosen, query, onHover }) {
  const { names, group, source, id } = node;
  const of = names.map((n) => rows[n]).filter(Boolean), sum = (field) => of.reduce((s, r) => s + (r[field] || 0), 0);
  const level = names.reduce((worst, n) => (RANK[levels[n]] > (RANK[worst] || 0) ? levels[n] : worst), "");
  const ill = names.filter((n) => levels[n]), dead = sum("dead"), busyNs = Math.max(0, ...of.map((r) => r.busy_ns || 0));
  const state = group ? (ill.length ? `${worst(ill, levels)}${ill.length > 1 ? ` +${ill.length - 1}` : ""}` : "") : of[0] && !["idle", "busy"].includes(of[0].state) ? of[0].state : "";
  const says = [state, busyNs > 1e9 && `busy ${age(busyNs)}`, dead && `${count(dead)} dead`, of.length && `${count(sum("waiting"))} waiting`].filter(Boolean).join(" · ");
  const makes = [...(node.makes || [])].map(kind).join(", "), label = group ? `${group} (${names.length})` : names[0] || "no name given", room = level ? 15 : 16, size = ` (${names.length})`;
  const address = group ? to("/", { ...query, open: node.lines ? "" : group }) : source ? to("/events", { agent: names[0] }) : sub(names[0]);
  const over = (v) => () => onHover(v);
  return html`<g class=${`node ${level}${chosen ? " chosen" : ""}${source ? " source" : ""}`} transform=${`translate(${at.x - WIDTH / 2} ${at.y - at.height / 2})`} onPointerEnter=${over(id)} onPointerLeave=${over("")}>
    <a href=${address} onFocus=${over(id)} onBlur=${over("")} aria-expanded=${group ? !!node.lines : null} aria-label=${`${plain(label)}: ${level ? level + ", " : ""}${says || "publishes only"}`}>
      ${group && !node.lines && html`<rect x="4" y="-4" width=${WIDTH} height=${HEIGHT} rx="2" />`}
      <rect width=${WIDTH} height=${at.height} rx="2" />
      ${level && html`<path class="word" transform=${`translate(${WIDTH - 17} 7)`} d=${SHAPES[level]} />`}
      <svg width=${WIDTH - (level ? 20 : 6)} height="22"><text x="8" y="18" class="title">${group ? cut(group, room - size.length) + size : cut(label, room)}</text></svg>
      <svg y="22" width=${WIDTH - 4} height="32"><text x="8" y="12" class=${"minor" + (level ? " word" : "")}>${cut(says || "publishes only", 21)}</text>
        <text x="8" y="26" class="minor">${makes && cut("→ " + makes, 19)}</text></svg>
      <title>${plain(label)}: ${says}${makes && `; makes ${makes}`}</title></a>
    ${node.lines && html`<${Members} names=${names} rows=${rows} levels=${levels} chosen=${chosen} />`}</g>`;
}

/** The members of an unfolded group, a line each: all in their order, or if they are many those with trouble first. */
function Members({ names, rows, levels, chosen }) {
  const many = names.length > LINES_MAX, shown = many ? [...names].sort((a, b) => (RANK[levels[b]] || 0) - (RANK[levels[a]] || 0)).slice(0, LINES_MAX) : names;
  const line = (i) => `translate(0 ${HEIGHT + i * LINE})`;
  return html`${shown.map((n, i) => html`<g key=${n} class=${levels[n] || ""} transform=${line(i)}><a href=${sub(n)} aria-label=${`${plain(n)}${levels[n] ? ": " + levels[n] : ""}`}><rect class="line-of" width=${WIDTH} height=${LINE} />
    ${levels[n] && html`<path class="word" transform="translate(5 5) scale(.8)" d=${SHAPES[levels[n]]} />`}<svg width=${WIDTH - 32} height=${LINE}><text x="16" y="13" class=${"member" + (n === chosen ? " title" : "")}>${cut(n, 14)}</text></svg><text x=${WIDTH - 6} y="13" class="minor" text-anchor="end">${rows[n] ? count(rows[n].waiting) : ""}</text><title>${plain(n)}</title></a></g>`)}
    ${many && html`<text x="16" y="13" class="minor" transform=${line(LINES_MAX)}>and ${names.length - LINES_MAX} more</text>`}`;
}
