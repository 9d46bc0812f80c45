// Two lines over the last minute, or the last 5 or 15, of a fixed height; the values under the pointer, or the newest, are written beside their names.
import { html, useLayoutEffect, useRef, useState } from "./dom.js";

const HEIGHT = 120, LEFT = 56, BELOW = 16, SPANS_S = [60, 300, 900];

/** Round values that a scale from low to high is labelled with. */
function ticks(low, high, log) {
  if (log) return Array.from({ length: 16 }, (_, i) => 10 ** i).filter((v) => v >= low && v <= high);
  const step = [1, 2, 5, 10].map((m) => m * 10 ** Math.floor(Math.log10(high / 3))).find((s) => high / s <= 4);
  return [0, 1, 2, 3, 4].map((i) => i * step).filter((v) => v <= high);
}

/** series: rows that begin with a time in seconds; columns: which two to draw, thin and thick; names: theirs. */
export function Chart({ series, columns, names, format, log, label }) {
  const box = useRef(), [width, setWidth] = useState(0), [at, setAt] = useState(null);
  useLayoutEffect(() => {
    const watch = new ResizeObserver(([{ contentRect }]) => setWidth(contentRect.width));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const rows = series || [], values = rows.flatMap((r) => columns.map((c) => r[c])).filter((v) => v > 0 || (!log && v === 0));
  const end = rows.length ? rows[rows.length - 1][0] : 0, spanS = SPANS_S.find((s) => !rows.length || end - rows[0][0] <= s) || SPANS_S[2];
  const low = log ? 10 ** Math.floor(Math.log10(Math.min(...values) || 1)) : 0, most = Math.max(...values), high = log ? 10 ** Math.ceil(Math.log10(most * 1.01)) : Math.max(most, 1) * 1.05;
  const scale = (v) => (log ? Math.log(v / low) / Math.log(high / low) : v / high);
  const x = (t) => LEFT + ((t - end + spanS) / spanS) * (width - LEFT - 8), y = (v) => 6 + (1 - scale(v)) * (HEIGHT - BELOW - 6);
  const drawn = (v) => v != null && (!log || v > 0);
  const line = (c) => rows.map((r, i) => (drawn(r[c]) ? `${i && drawn(rows[i - 1][c]) ? "L" : "M"}${x(r[0]).toFixed(1)} ${y(r[c]).toFixed(1)}` : "")).join("");
  const row = at == null ? rows[rows.length - 1] : rows.reduce((best, r) => (Math.abs(r[0] - at) < Math.abs(best[0] - at) ? r : best), rows[0]);
  const point = (event) => setAt(end - spanS + ((event.offsetX - LEFT) / (width - LEFT - 8)) * spanS);
  return html`<figure class="chart" ref=${box}><figcaption>${columns.map((c, i) => html`<span><i class=${"key k" + i}></i>${names[i]} <b>${row && drawn(row[c]) ? format(row[c]) : "–"}</b></span>`)}<span class="quiet">${at != null && row ? `${Math.round(end - row[0])} s ago` : ""}</span></figcaption>
    ${width > 0 && html`<svg width=${width} height=${HEIGHT} role="img" aria-label=${label} onPointerMove=${rows.length ? point : null} onPointerLeave=${() => setAt(null)}>
      ${values.length ? ticks(low, high, log).map((v) => html`<g><path class="grid" d=${`M${LEFT} ${y(v)}H${width - 8}`} /><text x=${LEFT - 6} y=${y(v) + 4} text-anchor="end">${format(v)}</text></g>`) : html`<text x=${LEFT + 8} y="56">nothing measured yet</text>`}
      ${(spanS === 300 ? [5, 4, 3, 2, 1, 0] : [3, 2, 1, 0]).map((part, _, [parts]) => (spanS * part) / parts).map((ago) => html`<text x=${x(end - ago)} y=${HEIGHT - 3} text-anchor=${ago ? (ago === spanS ? "start" : "middle") : "end"}>${ago ? `−${spanS > 60 ? `${ago / 60} min` : `${ago} s`}` : "now"}</text>`)}
      ${values.length > 0 && columns.map((c, i) => html`<path class=${"line k" + i} d=${line(c)} />`)}
      ${at != null && row && html`<path class="grid" d=${`M${x(row[0])} 6V${HEIGHT - BELOW}`} />`}</svg>`}</figure>`;
}
