// Try a task: which agent would get it, how sure the router is, and which past work says so.
import { useEffect, useState } from 'preact/hooks';
import { getJson, postJson } from '../lib/api.js';
import { duration, fixed, percent } from '../lib/format.js';
import { html } from '../lib/html.js';
import { newId } from '../state/conversation.js';
import { say } from '../state/notices.js';
import { Bar } from './charts.js';
import { IconButton } from './icons.js';

const EXAMPLES = ['Review the login form for injection attacks', 'Write unit tests for the date parser', 'Find out why the nightly build became slow', 'Draw up an API for the billing service'];
const METHODS = { hnsw: 'from similar past tasks', prior: 'from the agents’ records', lexical: 'from the words of the task' };

// Similarity to the right, quality up, area by the number of outcomes: the best evidence is top right and large.
function Neighbours({ evidence }) {
  const [w, h, pad] = [320, 220, 34];
  const low = Math.max(0, Math.min(...evidence.map((e) => e.similarity)) - 0.05);
  const x = (similarity) => pad + (w - pad - 12) * (similarity - low) / (1 - low || 1);
  const y = (quality) => h - pad - (h - pad - 26) * quality;
  return html`<svg class="neighbours" viewBox=${`0 0 ${w} ${h}`} role="img" aria-label="Past tasks by similarity and quality">
    ${[0, 0.5, 1].map((q) => html`<g><line x1=${pad} x2=${w - 8} y1=${y(q)} y2=${y(q)} /><text x=${pad - 8} y=${y(q) + 3.5} text-anchor="end">${q}</text></g>`)}
    <text x=${pad} y=${h - 10}>${fixed(low)}</text><text x=${w - 8} y=${h - 10} text-anchor="end">similarity 1</text><text x="0" y="8">quality</text>
    ${evidence.filter((e) => Number.isFinite(e.quality)).map((e) => html`<circle cx=${x(e.similarity)} cy=${y(e.quality)} r=${Math.min(13, 4 + 1.6 * Math.sqrt(e.n ?? 1))}>
      <title>${e.agent}: similarity ${fixed(e.similarity)}, quality ${fixed(e.quality)}, ${e.n} outcomes</title></circle>`)}
  </svg>`;
}

function Evidence({ evidence, matches }) {
  if (!evidence?.length) return html`<section class="card"><header><h3>Evidence</h3></header><p
    class="empty">No recorded work is near enough. Feedback on decisions becomes evidence.</p></section>`;
  const text = new Map((matches ?? []).map((m, i) => [evidence[i]?.id, m.pattern]));
  return html`<section class="card"><header><h3>Evidence</h3></header><div class="evidence">
    <${Neighbours} evidence=${evidence} />
    <div class="table"><table><thead><tr><th>Agent</th><th>Similarity</th><th>Quality</th><th class="right">Outcomes</th></tr></thead><tbody>
      ${evidence.map((e) => html`<tr key=${e.id}><td>${e.agent}${text.get(e.id) && html`<small
        class="muted clip prompt">${text.get(e.id)}</small>`}</td>
        <td><${Bar} share=${e.similarity} label=${`similarity ${fixed(e.similarity)}`} soft /><span class="numbers">${fixed(e.similarity)}</span></td>
        <td><${Bar} share=${e.quality} label=${`quality ${fixed(e.quality)}`} /><span class="numbers">${fixed(e.quality ?? NaN)}</span></td>
        <td class="right numbers">${e.n ?? '–'}</td></tr>`)}</tbody></table></div></div></section>`;
}

async function judge(decision, agent, success) {
  try {
    await postJson('/v1/feedback', { decision_id: decision.decision_id, agent, quality: success ? 1 : 0, feedback_id: newId() });
    say('Thank you. The router will remember.');
  } catch (error) {
    say(`The feedback was not taken: ${error.message}`, 'error');
  }
}

function Decision({ decision }) {
  const { primaryAgent: first, alternativeAgents: others, routing, modelTier: tier, estimatedMetrics: estimate } = decision;
  const agents = [first, ...others];
  return html`<section class="card decision"><header><h3>${first.type}</h3>
      <p class="muted">${METHODS[routing.method] ?? routing.method}, ${duration(routing.latencyMs)}</p></header>
    <p class="sentence">${first.reason}</p>
    <ol class="agents">${agents.map((agent, i) => html`<li key=${agent.type} class=${i === 0 ? 'first' : ''}>
      <span class="agent-name">${agent.type}</span><${Bar} share=${agent.confidence} label=${`confidence ${fixed(agent.confidence)}`} soft=${i > 0} />
      <span class="numbers">${percent(agent.confidence)}</span>
      <span class="agent-actions"><${IconButton} icon="up" size="15" label=${`${agent.type} did it well`}
        onClick=${() => judge(decision, agent.type, true)} />
        <${IconButton} icon="down" size="15" label=${`${agent.type} did it badly`}
          onClick=${() => judge(decision, agent.type, false)} /></span></li>`)}</ol>
    <dl class="facts">
      ${estimate?.complexity && html`<div><dt>Complexity</dt><dd>${estimate.complexity}</dd></div>`}
      ${tier && html`<div><dt>Model tier</dt><dd title=${tier.reasoning}>${tier.model}</dd></div>`}
      <div><dt>Chance of success</dt><dd>${Number.isFinite(estimate?.successProbability) ? percent(estimate.successProbability) : 'not known yet'}</dd></div>
      <div><dt>Learned</dt><dd>${decision.trained ? 'from outcomes' : 'no outcomes yet'}</dd></div></dl>
  </section>`;
}

function Agents() {
  const [agents, setAgents] = useState([]);
  useEffect(() => { getJson('/v1/agents').then((reply) => setAgents(reply.data ?? reply.agents ?? reply)).catch((error) => say(error.message, 'error')); }, []);
  return html`<section class="card"><header><h3>Agents</h3><p class="muted">${agents.length} registered</p></header>
    <ul class="registry">${agents.map((agent) => html`<li key=${agent.id}><b>${agent.id}</b><span
      class="muted">${agent.description}</span></li>`)}</ul></section>`;
}

export function RouterPage() {
  const [task, setTask] = useState('');
  const [state, setState] = useState({});
  const ask = async (text) => {
    if (!text.trim()) return;
    setTask(text);
    setState({ busy: true });
    try {
      setState({ decision: await postJson('/v1/route', { task: text.trim(), k: 5 }) });
    } catch (error) {
      setState({ error: error.message });
    }
  };
  const onKeyDown = (event) => { if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask(task); } };
  return html`<div class="page"><div class="page-column">
    <p class="lead">Which agent should do it?</p>
    <div class="ask"><textarea class="field" rows="2" aria-label="Task" placeholder="Describe a task" value=${task} onKeyDown=${onKeyDown}
      onInput=${(event) => setTask(event.target.value)} />
      <button type="button" class="button primary" disabled=${!task.trim() || state.busy} onClick=${() => ask(task)}>Route</button></div>
    ${!state.decision && html`<div class="chips">${EXAMPLES.map((text) => html`<button type="button" class="chip"
      onClick=${() => ask(text)}>${text}</button>`)}</div>`}
    ${state.error && html`<p class="error-card" role="alert">${state.error}</p>`}
    ${state.decision && html`<${Decision} decision=${state.decision} /><${Evidence} evidence=${state.decision.evidence} matches=${state.decision.semanticMatches} />`}
    <${Agents} /></div></div>`;
}
