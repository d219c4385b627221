// Learning: mode, what was accepted and refused, how the loss moved, generations to go back to, and the bank.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { count, fixed, percent, signed, when } from '../lib/format.js';
import { html } from '../lib/html.js';
import { useStore } from '../lib/store.js';
import { freeze, refresh, reset, rollback, searchBank, sona } from '../state/sona.js';
import { Bar, Plot } from './charts.js';
import { confirm } from './dialogs.js';
import { Icon } from './icons.js';

// All zero is the model as it was made.
const hashText = (hash) => (/[1-9a-f]/.test(hash ?? '') ? hash.slice(0, 12) : 'the model itself');

const MODES = {
  off: ['Off', 'Feedback is stored for the router; answers are the model’s own.'],
  record: ['Recording', 'Answers are stored as trajectories; the weights stay as they are.'],
  on: ['Learning', 'Corrections and ratings move the adapter, if every gate lets them.'],
};

function Overview({ status }) {
  const { mode, updates, bank, generation, hash, delta_nll: delta, index } = status;
  const [name, text] = MODES[mode] ?? [mode, ''];
  const refused = Object.values(updates.rejected ?? {}).reduce((sum, n) => sum + n, 0);
  return html`<section class="card overview"><header><h3><span
    class=${`dot ${mode === 'on' && !status.frozen ? 'ready' : ''}`} />${status.frozen ? 'Frozen' : name}</h3>
      <p class="muted">${text}</p></header>
    <div class="tiles">
      <div class="tile"><span>Generation</span><b class="numbers">${generation}</b><small class="mono">${hashText(hash)}</small></div>
      <div class="tile"><span>Updates taken</span><b class="numbers">${count(updates.accepted)}</b><small
        class="numbers">${count(refused)} refused</small></div>
      <div class="tile"><span>Loss, change</span><b class="numbers">${signed(delta ?? NaN)}</b><small>nats a token, held out</small></div>
      <div class="tile"><span>Bank</span><b class="numbers">${count(bank.rows)}</b><small
        class="numbers">of ${count(bank.capacity)}${index?.state ? ` · index ${index.state}` : ''}</small></div>
    </div>
    <div class="card-actions">
      <button type="button" class="button" onClick=${() => freeze(!status.frozen)}><${Icon} name="snow"
        size="16" />${status.frozen ? 'Go on learning' : 'Freeze'}</button>
      <button type="button" class="button quiet-danger" disabled=${generation === 0} onClick=${async () => {
        if (await confirm({ title: 'Forget the learned weights?', text: 'Answers will come from the model as it was made. Generations stay in the list: you can come back.', action: 'Reset', danger: true })) reset();
      }}><${Icon} name="undo" size="16" />Reset</button></div>
  </section>`;
}

function Refused({ rejected }) {
  const rows = Object.entries(rejected ?? {}).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  if (rows.length === 0) return null;
  const most = rows[0][1];
  return html`<section class="card"><header><h3>Why updates were refused</h3></header><ul class="reasons">${rows.map(([reason, n]) => html`
    <li key=${reason}><span>${reason}</span><${Bar} share=${n / most} label=${`${n} times`} soft /><b
      class="numbers">${count(n)}</b></li>`)}</ul></section>`;
}

function Curve({ reports }) {
  const data = useMemo(() => {
    const measured = reports.filter((r) => r.nll_before > 0 && r.nll_after > 0).reverse();  // come newest first; 0: not measured
    return [measured.map((_, i) => i + 1), measured.map((r) => r.nll_after), measured.map((r) => r.nll_before)];
  }, [reports]);
  if (data[0].length < 1) return null;
  const values = [...data[1], ...data[2]];
  const range = () => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = Math.max(0.01, 0.15 * (high - low));
    return [low - room, high + room];
  };
  return html`<${Plot} key=${values.length} title="Learning curve" time=${false} points=${true} data=${data} range=${range}
    show=${(v) => fixed(v ?? NaN, 3)}
    series=${[{ label: 'after' }, { label: 'before', strength: 2, dash: [4, 4] }]}
      note="Loss on held-out text in nats a token, for each update that was tried. Lower is better." />`;
}

// Fields of a report that are known are shown.
const GATES = [['nll_before', 'loss before', 3], ['nll_after', 'loss after', 3], ['canary_kl', 'drift (KL)', 4], ['canary_rise', 'canary rise', 4], ['delta_p999', 'shift p99.9', 3], ['update_norm', 'size', 3]];

function Gates({ report }) {
  const known = GATES.filter(([name]) => Number.isFinite(report[name]));
  if (known.length === 0) return null;
  return html`<dl class="gates">${known.map(([name, label, digits]) => html`<div><dt>${label}</dt><dd
    class="numbers">${fixed(report[name], digits)}</dd></div>`)}</dl>`;
}

async function goBack(entry) {
  const yes = await confirm({
    title: `Go back to generation ${entry.generation}?`, action: 'Roll back', danger: true,
    text: 'New answers use what it knew. Nothing is deleted: it becomes a new generation, and you can go forward again.',
  });
  if (yes) rollback(entry);
}

function Generations({ adapters }) {
  const { data } = adapters;
  return html`<section class="card"><header><h3>Generations</h3><p class="muted">newest first</p></header>
    ${data.length === 0 ? html`<p class="empty">Nothing has been published. Answers are the model’s own.</p>` : html`<ol
      class="timeline">${data.map((entry) => html`
      <li key=${`${entry.session_id ?? ''}/${entry.generation}`} class=${entry.live ? 'live' : ''}>
        <div class="timeline-head"><b class="numbers">${entry.generation}</b><span class="mono muted">${hashText(entry.hash)}</span>
          <span>${entry.reason}</span>${entry.session_id && html`<span class="tag" title="Of this conversation alone">conversation ${entry.session_id.slice(0, 8)}</span>`}<span class="muted">${when(entry.time)}</span>
          ${entry.live ? html`<span class="tag decode">live</span>`
            : html`<button type="button" class="button" onClick=${() => goBack(entry)}>Roll back</button>`}</div>
        ${entry.report && html`<${Gates} report=${entry.report} />`}</li>`)}</ol>`}
  </section>`;
}

function Reports({ reports }) {
  const refused = reports.filter((r) => !r.accepted).slice(0, 8);
  if (refused.length === 0) return null;
  return html`<section class="card"><header><h3>Lately refused</h3></header><ul class="refusals">${refused.map((r) => html`
    <li><b>${r.reason}</b><span class="muted">${r.detail}</span><small
      class="muted">${r.loop}${r.time ? `, ${when(r.time)}` : ''}</small></li>`)}</ul></section>`;
}

function Bank() {
  const [query, setQuery] = useState('');
  const [state, setState] = useState({});
  const ask = async () => {
    if (!query.trim()) return;
    try {
      setState({ found: await searchBank(query.trim()) });
    } catch (error) {
      setState({ error: error.message });
    }
  };
  return html`<section class="card"><header><h3>Bank</h3><p class="muted">notes made of corrections and good answers</p></header>
    <div class="ask"><input class="field" aria-label="Search the bank" placeholder="Search by meaning" value=${query}
      onInput=${(event) => setQuery(event.target.value)}
      onKeyDown=${(event) => { if (event.key === 'Enter' && !event.isComposing) ask(); }} />
      <button type="button" class="button primary" disabled=${!query.trim()} onClick=${ask}>Search</button></div>
    ${state.error && html`<p class="error-card" role="alert">${state.error}</p>`}
    ${state.found?.length === 0 && html`<p class="empty">Nothing is near that.</p>`}
    ${state.found?.length > 0 && html`<ul class="bank">${state.found.map((item) => html`<li key=${item.id}><p>${item.content}</p>
      <${Bar} share=${item.similarity} label=${`similarity ${fixed(item.similarity)}`} soft /><small
        class="numbers muted">${percent(item.similarity)} similar</small></li>`)}</ul>`}
  </section>`;
}

export function SonaPage() {
  const { status, adapters, error } = useStore(sona);
  useEffect(() => {
    refresh();
    const timer = setInterval(() => { if (!document.hidden) refresh(); }, 5000);
    return () => clearInterval(timer);
  }, []);
  return html`<div class="page"><div class="page-column">
    ${error && html`<p class="error-card" role="alert">${error}</p>`}
    ${!status ? !error && html`<p class="empty"><span class="pulse" /> Asking the server</p>` : html`
      <${Overview} status=${status} /><${Curve} reports=${status.reports ?? []} /><${Refused} rejected=${status.updates.rejected} />
      <${Generations} adapters=${adapters} /><${Reports} reports=${status.reports ?? []} /><${Bank} />`}
  </div></div>`;
}
