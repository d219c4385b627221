// What the server is doing now, and did in the last five minutes.
import { useEffect, useMemo } from 'preact/hooks';
import { remove } from '../lib/api.js';
import { bytes, count, duration, percent, rate, short } from '../lib/format.js';
import { html } from '../lib/html.js';
import { useStore } from '../lib/store.js';
import { say } from '../state/notices.js';
import { follow, pages, requests, stats } from '../state/stats.js';
import { Plot } from './charts.js';
import { KvMap } from './kvmap.js';

const Tile = ({ label, value, note }) => html`<div class="tile"><span>${label}</span><b class="numbers">${value}</b><small
  class="numbers">${note}</small></div>`;

function Tiles({ now }) {
  const { requests: r, latency, kv, memory, tokens, rates } = now;
  return html`<div class="tiles">
    <${Tile} label="Running" value=${count(r.running)} note=${`${count(r.waiting)} waiting`} />
    <${Tile} label="Tokens a second" value=${rate(rates.generated_per_second)} note=${`${short(tokens.generated_total)} so far`} />
    <${Tile} label="First token" value=${duration(latency.ttft_ms.p50 ?? NaN)} note=${`p99 ${duration(latency.ttft_ms.p99 ?? NaN)}`} />
    <${Tile} label="KV cache" value=${percent((kv.total - kv.free) / kv.total)} note=${`${count(kv.total)} pages`} />
    <${Tile} label="From the cache" value=${percent(tokens.cached_total / tokens.prompt_total)} note=${`of ${short(tokens.prompt_total)} tokens`} />
    <${Tile} label="Memory" value=${bytes(memory.rss_bytes)} note=${`up ${duration(1000 * now.uptime_s)}`} />
  </div>`;
}

const fraction = (_, min, max) => [0, Math.max(1, max ?? 1)];
const whole = (v) => (Number.isInteger(v) ? count(v) : '');
const shareText = (v) => percent(v ?? NaN);
const timeText = (v) => duration(v ?? NaN);
const LATENCY = [{ label: 'p50' }, { label: 'p95', strength: 2 }, { label: 'p99', strength: 3 }];

function Plots({ history }) {
  // One pass over the history per event; each plot takes its columns.
  const data = useMemo(() => {
    const column = (get) => history.map((p) => get(p) ?? null);
    const x = column((p) => p.time);
    const three = (name) => [x, ...[0, 1, 2].map((i) => column((p) => p[name][i]))];
    return {
      tokens: [x, column((p) => p.generated), column((p) => p.prompt)], ttft: three('ttft'), gap: three('gap'),
      queue: [x, column((p) => p.running), column((p) => p.waiting)], kv: [x, column((p) => p.kv)],
      cached: [x, column((p) => p.cached)], accepted: [x, column((p) => p.accepted)], memory: [x, column((p) => p.memory && p.memory / 2 ** 20)],
    };
  }, [history]);
  return html`<div class="plots">
    <${Plot} title="Tokens a second" series=${[{ label: 'generated', fill: true }, { label: 'prompt', strength: 2 }]} data=${data.tokens}
      show=${rate} ticks=${short} />
    <${Plot} title="Time to the first token" series=${LATENCY} data=${data.ttft} show=${timeText} />
    <${Plot} title="Time between tokens" series=${LATENCY} data=${data.gap} show=${timeText} />
    <${Plot} title="Requests" series=${[{ label: 'running', fill: true, step: true }, { label: 'waiting', strength: 2, step: true }]}
      data=${data.queue} show=${count} ticks=${whole} />
    <${Plot} title="KV pages in use" series=${[{ label: 'in use', fill: true }]} data=${data.kv} show=${shareText} range=${fraction} />
    <${Plot} title="Prompt tokens from the cache" series=${[{ label: 'hits', fill: true }]} data=${data.cached} show=${shareText} range=${fraction} />
    <${Plot} title="Draft tokens accepted" series=${[{ label: 'accepted', fill: true }]} data=${data.accepted} show=${shareText} range=${fraction} />
    <${Plot} title="Memory" series=${[{ label: 'resident', fill: true }]} data=${data.memory} show=${(v) => bytes(v * 2 ** 20)}
      ticks=${(v) => `${count(v)} MiB`} />
  </div>`;
}

async function cancel(request) {
  try {
    await remove(`/v1/requests/${encodeURIComponent(request.id)}`);
    say('Cancelled.');
  } catch (error) {
    say(`Not cancelled: ${error.message}`, 'error');
  }
}

function Requests() {
  const list = useStore(requests);
  return html`<section class="card"><header><h3>Running requests</h3></header>
    ${list.length === 0 ? html`<p class="empty">Nothing is running.</p>` : html`<div class="table"><table class="requests">
      <thead><tr><th>Request</th><th>State</th><th class="right">Prompt</th><th class="right">Generated</th><th
        class="right">Age</th><th /></tr></thead>
      <tbody>${list.map((r) => html`<tr key=${r.id}>
        <td><span class="clip prompt">${r.prompt ?? 'of another user'}</span><small class="muted">${r.route}</small></td>
        <td><span class=${`tag ${r.state}`}>${r.state}</span></td>
        <td class="right numbers">${count(r.prompt_done)} / ${count(r.prompt_tokens)}</td>
        <td class="right numbers">${count(r.generated_tokens)}</td>
        <td class="right numbers">${duration(r.age_ms)}</td>
        <td class="right">${r.own && html`<button type="button" class="button"
          onClick=${() => cancel(r)}>Cancel</button>`}</td></tr>`)}</tbody></table></div>`}
  </section>`;
}

export function Dashboard() {
  const { now, history, state, message } = useStore(stats);
  const map = useStore(pages);
  useEffect(follow, []);
  return html`<div class="page"><div class="page-column wide">
    ${state === 'lost' && html`<p class="error-card" role="alert">${message ?? 'The stream ended.'} Connecting again.</p>`}
    ${!now ? html`<p class="empty"><span class="pulse" /> Waiting for the first figures</p>` : html`
      <p class="lead">${now.model.name || now.model.id}<span class="muted"><span
        class="separator"> · </span>${now.model.quant} · ${short(now.model.n_params)} parameters · context ${count(now.model.n_ctx)}</span></p>
      <${Tiles} now=${now} /><${Plots} history=${history} />
      ${map?.total > 0 && html`<${KvMap} map=${map} />`}<${Requests} />`}
  </div></div>`;
}
