// Every page of the KV cache as a cell: what the pool is made of at this moment.
import { useEffect, useRef } from 'preact/hooks';
import { bytes, count } from '../lib/format.js';
import { html } from '../lib/html.js';
import { useStore } from '../lib/store.js';
import { isDark, settings } from '../state/settings.js';

// A page is free, private (one request's), published (may be found as a prefix) or shared (by several at once).
const KINDS = [['shared', '--accent'], ['published', '--series-2'], ['private', '--series-3'], ['free', '--cell-free']];
const MAX_CELLS = 2048;

function draw(canvas, map) {
  const css = getComputedStyle(document.documentElement);
  const perCell = Math.ceil(map.total / MAX_CELLS);
  const cells = Math.ceil(map.total / perCell);
  const width = canvas.parentElement.clientWidth;
  const wanted = Math.max(6, Math.min(16, Math.sqrt((width * 150) / cells)));
  const columns = Math.max(1, Math.floor(width / wanted));
  const size = width / columns;
  const rows = Math.ceil(cells / columns);
  const scale = devicePixelRatio;
  canvas.width = columns * size * scale;
  canvas.height = rows * size * scale;
  canvas.style.width = `${columns * size}px`;
  canvas.style.height = `${rows * size}px`;
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  // The API gives counts, not places: cells are filled kind by kind, each with its share of the pages.
  let kind = 0;
  let left = map[KINDS[0][0]];
  for (let cell = 0; cell < cells; cell++) {
    while (left <= 0 && kind < KINDS.length - 1) left += map[KINDS[++kind][0]];
    pen.fillStyle = css.getPropertyValue(KINDS[kind][1]).trim();
    pen.beginPath();
    pen.roundRect((cell % columns) * size, Math.floor(cell / columns) * size, size - 2, size - 2, size > 8 ? 2.5 : 1);
    pen.fill();
    left -= perCell;
  }
  return perCell;
}

export function KvMap({ map }) {
  const canvas = useRef();
  const theme = useStore(settings).theme + isDark();
  useEffect(() => {
    const element = canvas.current;
    const again = () => draw(element, map);
    again();
    addEventListener('resize', again);
    return () => removeEventListener('resize', again);
  }, [map, theme]);
  const used = map.total - map.free;
  const perCell = Math.ceil(map.total / MAX_CELLS);
  return html`<section class="card kv"><header><h3>KV cache</h3><p class="muted numbers">${count(used)} of ${count(map.total)} pages,${' '}
      ${bytes(used * map.page_bytes)} of ${bytes(map.total * map.page_bytes)}</p></header>
    <div class="kv-box"><canvas ref=${canvas} role="img" aria-label=${KINDS.map(([kind]) => `${map[kind]} ${kind}`).join(', ')} /></div>
    <ul class="kv-key">${KINDS.map(([kind]) => html`<li><span class=${`cell ${kind}`} />${kind}<b class="numbers">${count(map[kind])}</b></li>`)}</ul>
    <p class="hint">A page holds ${map.page_tokens} tokens.${perCell > 1 ? ` A cell stands for ${perCell} pages.` : ''} Cells are in order of their kind, not of their place in memory.</p>
  </section>`;
}
