// Places for a directed graph in layers, after Sugiyama, Tagawa and Toda (1981): few arrows against the stream, few crossings, straight runs.
// One axis runs along the stream (`depth`), the other across it (`at`, `size`).

const SWEEPS = 12, BEND = 10, STRAIGHT = 6; // the room of a passing arrow in a layer, and how much more it keeps its place than a node

/** An order in which few links run backwards: sinks last, sources first, of the rest those that send more than they take
 * (Eades, Lin and Smyth, 1993). */
function stream(ids, links) {
  const left = new Set(ids), first = [], last = [];
  const degree = (id, end, other) => links.filter((l) => l[end] === id && left.has(l[other])).length;
  while (left.size) {
    const all = [...left], sends = (id) => degree(id, "from", "to"), takes = (id) => degree(id, "to", "from");
    const sink = all.find((id) => takes(id) && !sends(id)), source = all.find((id) => !takes(id));
    const next = source ?? sink ?? all.reduce((best, id) => (sends(id) - takes(id) > sends(best) - takes(best) ? id : best));
    (next === sink && next !== source ? last : first).push(next);
    left.delete(next);
  }
  return [...first, ...last.reverse()];
}

/** The layers, each a list of cells; a link that crosses layers has a cell of its own in each. */
function layered(nodes, links) {
  const order = stream(nodes.map((n) => n.id), links), place = new Map(order.map((id, i) => [id, i]));
  const ways = links.map((l) => (place.get(l.from) < place.get(l.to) ? { link: l, a: l.from, b: l.to } : { link: l, a: l.to, b: l.from, back: true }));
  const rank = new Map(order.map((id) => [id, 0]));
  for (const id of order) for (const w of ways) if (w.a === id) rank.set(w.b, Math.max(rank.get(w.b), rank.get(id) + 1));
  for (const id of [...order].reverse()) { // a source stands just before what it feeds
    const out = ways.filter((w) => w.a === id);
    if (out.length && !ways.some((w) => w.b === id)) rank.set(id, Math.min(...out.map((w) => rank.get(w.b))) - 1);
  }
  const layers = [], cells = new Map();
  const put = (cell, r) => { (layers[r] ||= []).push(Object.assign(cell, { before: [], after: [], rank: r })); return cell; };
  for (const n of nodes) cells.set(n.id, put({ node: n, size: n.size, deep: n.deep }, rank.get(n.id)));
  for (const w of ways) {
    w.run = [cells.get(w.a)];
    for (let r = rank.get(w.a) + 1; r < rank.get(w.b); r++) w.run.push(put({ size: BEND, deep: 0 }, r));
    w.run.slice(1).forEach((c) => { c.along = w.run.slice(1); });
    w.run.push(cells.get(w.b));
    for (let i = 1; i < w.run.length; i++) { w.run[i - 1].after.push(w.run[i]); w.run[i].before.push(w.run[i - 1]); }
  }
  return { layers: Array.from(layers, (l) => l || []), ways, cells };
}

const crossings = (layers) => layers.reduce((sum, layer) => {
  const ends = layer.flatMap((c) => c.after.map((d) => [c.at, d.at]));
  return sum + ends.reduce((n, [a, b], i) => n + ends.slice(i + 1).filter(([x, y]) => (a - x) * (b - y) < 0).length, 0);
}, 0);
const mean = (cells, otherwise) => (cells.length ? cells.reduce((s, c) => s + c.at, 0) / cells.length : otherwise);
const SMOOTHING = 24;

/** Sort each layer by where its neighbours are, there and back, and keep the best found. */
function untangle(layers) {
  const number = (layer) => layer.forEach((c, i) => { c.at = i; });
  layers.forEach(number);
  let best = null, least = Infinity;
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const crossed = crossings(layers);
    if (crossed < least) { least = crossed; best = layers.map((l) => [...l]); }
    const down = sweep % 2 === 0;
    for (const layer of down ? layers : [...layers].reverse()) {
      const wish = new Map(layer.map((c) => [c, mean(down ? c.before : c.after, c.at)]));
      layer.sort((a, b) => wish.get(a) - wish.get(b));
      number(layer);
    }
  }
  if (crossings(layers) >= least) best.forEach((l, i) => { layers[i] = l; number(l); });
}

/** Move the cells of a layer as near to where they wish to be as their order and the gaps allow: neighbours that collide move as one. */
function settle(layer, wishes, gap) {
  const blocks = [];
  let offset = 0;
  layer.forEach((cell, i) => {
    if (i) offset += (layer[i - 1].size + cell.size) / 2 + gap * (layer[i - 1].node && cell.node ? 1 : 0.6);
    cell.offset = offset;
    const weight = cell.node ? 1 : STRAIGHT;
    blocks.push({ cells: [cell], weight, sum: weight * (wishes[i] - offset) });
    for (let b = blocks.length - 1; b && blocks[b - 1].sum / blocks[b - 1].weight > blocks[b].sum / blocks[b].weight; b--) {
      const { cells, weight: more, sum } = blocks.pop();
      blocks[b - 1].cells.push(...cells);
      blocks[b - 1].weight += more;
      blocks[b - 1].sum += sum;
    }
  });
  for (const { cells, weight, sum } of blocks) for (const c of cells) c.at = sum / weight + c.offset;
}

/** nodes: [{id, width, height}], links: [{key, from, to}]. Returns where each node's middle is, through which points each link goes,
 * and the box around all. */
export function layout(nodes, links, { down, gap, step }) {
  const turned = nodes.map((n) => ({ ...n, size: down ? n.width : n.height, deep: down ? n.height : n.width }));
  const { layers, ways, cells } = layered(turned, links);
  untangle(layers);
  for (const layer of layers) settle(layer, layer.map(() => 0), gap);
  for (let sweep = 0; sweep < SMOOTHING; sweep++)
    for (const layer of sweep % 2 ? [...layers].reverse() : layers)
      settle(layer, layer.map((c) => mean(sweep < SMOOTHING / 2 ? (sweep % 2 ? c.after : c.before) : c.along || [...c.before, ...c.after], c.at)), gap);
  let depth = 0;
  const begins = layers.map((layer) => { const at = depth; depth += Math.max(0, ...layer.map((c) => c.deep)) + step; return at; });
  const deepest = layers.map((layer) => Math.max(0, ...layer.map((c) => c.deep)));
  const point = (d, a) => (down ? { x: a, y: d } : { x: d, y: a });
  /** Where a link leaves or reaches a node: those of one side are spread over it in the order of where they go. */
  const port = (cell, side, next) => {
    const order = [...cell[side]].sort((a, b) => a.at - b.at), i = order.indexOf(next);
    return cell.at + ((i + 1) / (order.length + 1) - 0.5) * cell.size * 0.8;
  };
  const centre = (c) => begins[c.rank] + deepest[c.rank] / 2;
  const paths = new Map(ways.map(({ link, run, back }) => {
    const points = run.flatMap((c, i) => {
      if (!i) return [point(centre(c) + c.deep / 2, port(c, "after", run[1]))];
      if (i === run.length - 1) return [point(centre(c) - c.deep / 2, port(c, "before", run[i - 1]))];
      return [point(begins[c.rank], c.at), point(begins[c.rank] + deepest[c.rank], c.at)];
    });
    return [link.key, back ? points.reverse() : points];
  }));
  const places = new Map([...cells].map(([id, c]) => [id, { ...point(centre(c), c.at), width: c.node.width, height: c.node.height }]));
  const xs = [...places.values()].flatMap((p) => [p.x - p.width / 2, p.x + p.width / 2]).concat([...paths.values()].flat().map((p) => p.x));
  const ys = [...places.values()].flatMap((p) => [p.y - p.height / 2, p.y + p.height / 2]).concat([...paths.values()].flat().map((p) => p.y));
  const x = nodes.length ? Math.min(...xs) : 0, y = nodes.length ? Math.min(...ys) : 0;
  return { places, paths, box: { x, y, width: nodes.length ? Math.max(...xs) - x : 1, height: nodes.length ? Math.max(...ys) - y : 1 } };
}
