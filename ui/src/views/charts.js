// uPlot in the page's colours: one accent in up to three strengths, a heading with the figures under the pointer.
import uPlot from 'uplot';
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { useStore } from '../lib/store.js';
import { isDark, settings } from '../state/settings.js';

const HEIGHT = 150;
const dark = matchMedia('(prefers-color-scheme: dark)');

/** Changes when the page's colours do: plots are drawn on canvases and must be made anew. */
function useTheme() {
  useStore(settings);
  const [, redraw] = useState(0);
  useEffect(() => {
    const again = () => redraw((n) => n + 1);
    dark.addEventListener('change', again);
    return () => dark.removeEventListener('change', again);
  }, []);
  return isDark();
}

// A young history stands at the right of a minute, not stretched over the width. From the data: uPlot itself makes a day of
// one point.
function lastMinutes({ data: [times] }) {
  const end = times.at(-1) ?? Date.now() / 1000;
  return [Math.min(times[0] ?? end, end - 60), end];
}

function options({ series, ticks, range, time, points, width, onIndex }) {
  const css = getComputedStyle(document.documentElement);
  const color = (name) => css.getPropertyValue(name).trim();
  const font = `11px ${css.getPropertyValue('--font').trim()}`;
  const axis = { stroke: color('--muted'), font, ticks: { show: false }, grid: { stroke: color('--line'), width: 1 } };
  return {
    width, height: HEIGHT, padding: [8, 18, 0, 0], legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: { time, range: time ? lastMinutes : undefined }, y: { range: range ?? ((_, min, max) => [Math.min(0, min ?? 0), max > 0 ? max * 1.15 : 1]) } },
    axes: [
      { ...axis, grid: { show: false }, space: 70, size: 26,
        values: (_, at) => at.map((v) => (time ? new Date(v * 1000).toLocaleTimeString('en', { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })
          : Number.isInteger(v) ? v : '')) },
      { ...axis, size: 52, space: 28, values: (_, at) => at.map((v) => (v === 0 ? '0' : ticks(v))) },
    ],
    series: [{}, ...series.map(({ strength = 1, fill, dash, step }) => {
      const stroke = strength === 1 ? color('--accent') : color(`--series-${strength}`);
      return { stroke, width: 1.8, dash, spanGaps: false, points: { show: Boolean(points), size: 6, fill: points ? color('--surface') : undefined },
        fill: fill ? color('--accent-soft') : undefined, paths: step ? uPlot.paths.stepped({ align: 1 }) : undefined };
    })],
    hooks: { setCursor: [(plot) => onIndex(plot.cursor.idx ?? null)] },
  };
}

/**
 * @param series [{label, strength: 1 | 2 | 3, fill, dash, step}], strongest first
 * @param data   [xs, ys of the first series, ...], null = a gap
 * @param show   number -> text of the heading; ticks: of the axis
 */
export function Plot({ title, note, series, data, show, ticks = show, range, time = true, points = false }) {
  const box = useRef();
  const plot = useRef();
  const [index, setIndex] = useState(null);
  const theme = useTheme();
  useEffect(() => {
    const element = box.current;
    const width = () => Math.max(200, Math.floor(element.clientWidth));
    plot.current = new uPlot(options({ series, ticks, range, time, points, width: width(), onIndex: setIndex }), data, element);
    const resize = new ResizeObserver(() => plot.current.setSize({ width: width(), height: HEIGHT }));
    resize.observe(element);
    return () => { resize.disconnect(); plot.current.destroy(); };
  }, [theme]);
  useEffect(() => plot.current.setData(data), [data]);
  const at = index ?? data[0].length - 1;
  return html`<section class="card plot"><header><h3>${title}</h3>
    <dl>${series.map(({ label, strength = 1 }, i) => html`<div><dt class=${`key s${strength}`}>${label}</dt><dd
      class="numbers">${show(data[i + 1]?.[at])}</dd></div>`)}</dl></header>
    <div class="plot-box" ref=${box} role="img" aria-label=${`${title} over ${time ? 'time' : 'updates'}`} />${note && html`<p
      class="hint">${note}</p>`}</section>`;
}

/** A labelled bar from 0 to 1. */
export const Bar = ({ share, label, soft }) => html`<span class=${`bar ${soft ? 'soft' : ''}`} role="img" aria-label=${label}>
  <span style=${{ width: `${100 * Math.max(0, Math.min(1, share || 0))}%` }} /></span>`;
