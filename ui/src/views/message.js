// One message: text, what can be done with it, and what the server measured.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { copyText } from '../lib/clipboard.js';
import { count, duration, percent, rate as perSecond } from '../lib/format.js';
import { html } from '../lib/html.js';
import { blocks } from '../lib/markdown.js';
import { useStore } from '../lib/store.js';
import { draftedPieces, showVersion, versions } from '../state/conversation.js';
import { continueAnswer, correct, edit, rate, regenerate } from '../state/generation.js';
import { changed } from '../state/library.js';
import { settings } from '../state/settings.js';
import { Icon, IconButton } from './icons.js';

function Block({ block }) {
  const markup = useMemo(() => block.html(), [block.key]);
  return html`<div class="block" dangerouslySetInnerHTML=${{ __html: markup }} />`;
}

async function copyCode(event) {
  const button = event.target.closest('.code-copy');
  if (!button) return;
  if (await copyText(button.closest('.code').querySelector('code').textContent)) {
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  }
}

export function Markdown({ text, streaming }) {
  const parts = useMemo(() => blocks(text), [text]);
  return html`<div class=${`prose ${streaming ? 'streaming' : ''}`} onClick=${copyCode}>
    ${parts.map((block, i) => html`<${Block} key=${i} block=${block} />`)}</div>`;
}

/** An answer as it came, the drafted ranges tinted: markdown has no place for ranges of its source. */
function Tinted({ node, streaming }) {
  const pieces = draftedPieces(node);
  const n = pieces.reduce((sum, { text, drafted }) => sum + (drafted ? text.length : 0), 0);
  return html`<div class=${`prose ${streaming ? 'streaming' : ''}`}><div class="block"><p class="plain">
    ${pieces.map(({ text, drafted }) => (drafted ? html`<mark class="drafted">${text}</mark>` : text))}</p></div></div>
    <small class="tint-note">drafted text is tinted; ${percent(n / node.content.length)} of this answer</small>`;
}

/** A text field that grows with its text; Enter is `onSubmit`, Esc `onCancel`. */
export function Editor({ initial, label, action, onSubmit, onCancel }) {
  const [text, setText] = useState(initial);
  const ref = useRef();
  useEffect(() => { ref.current.focus(); ref.current.setSelectionRange(initial.length, initial.length); }, []);
  useEffect(() => { ref.current.style.height = 'auto'; ref.current.style.height = `${ref.current.scrollHeight + 2}px`; }, [text]);
  const submit = () => { if (text.trim()) onSubmit(text.trim()); };
  const onKeyDown = (event) => {
    if (event.isComposing) return;
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); }
    if (event.key === 'Escape') { event.stopPropagation(); onCancel(); }
  };
  return html`<div class="editor">
    <textarea ref=${ref} class="field" aria-label=${label} rows="2" value=${text} onKeyDown=${onKeyDown}
      onInput=${(event) => setText(event.target.value)} />
    <div class="editor-actions">
      <button type="button" class="button" onClick=${onCancel}>Cancel</button>
      <button type="button" class="button primary" disabled=${!text.trim()} onClick=${submit}>${action}</button>
    </div></div>`;
}

function Copy({ text }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    const timer = done && setTimeout(() => setDone(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  return html`<${IconButton} icon=${done ? 'check' : 'copy'} size="16" label=${done ? 'Copied' : 'Copy'}
    onClick=${async () => setDone(await copyText(text))} />`;
}

function Versions({ conversation, node, disabled }) {
  const { index, total } = versions(conversation, node);
  if (total < 2) return null;
  const go = (step) => { showVersion(conversation, node, index + step); changed(conversation, true); };
  return html`<span class="versions" role="group" aria-label="Versions of this message">
    <${IconButton} icon="left" size="14" label="Previous version" disabled=${disabled || index === 0} onClick=${() => go(-1)} />
    <span class="numbers">${index + 1}/${total}</span>
    <${IconButton} icon="right" size="14" label="Next version" disabled=${disabled || index === total - 1} onClick=${() => go(1)} />
  </span>`;
}

export function UserMessage({ conversation, node, busy }) {
  const [editing, setEditing] = useState(false);
  if (editing) {
    return html`<article class="message user" aria-label="You"><${Editor} initial=${node.content} label="Edit your message" action="Send"
      onCancel=${() => setEditing(false)} onSubmit=${(text) => { setEditing(false); edit(conversation, node, text); }} /></article>`;
  }
  return html`<article class="message user" aria-label="You">
    <div class="bubble">${node.content}</div>
    <footer class="actions">
      <${Versions} conversation=${conversation} node=${node} disabled=${busy} />
      <${Copy} text=${node.content} />
      <${IconButton} icon="pencil" size="16" label="Edit" disabled=${busy} onClick=${() => setEditing(true)} />
    </footer>
  </article>`;
}

function Countdown({ until }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, []);
  return html`<b class="numbers">${Math.max(0, Math.ceil((until - now) / 1000))} s</b>`;
}

/** What happens before the first word. */
function Waiting({ state }) {
  if (state.phase === 'retry') {
    return html`<p class="waiting" role="status"><span
      class="pulse" /><span>${state.reason} Trying again in <${Countdown} until=${state.retryAt} /></span></p>`;
  }
  if (state.phase === 'loading') return html`<p class="waiting" role="status"><span class="pulse" />Waiting for the model to be ready</p>`;
  const { progress } = state;
  if (state.phase !== 'prompt' || !progress?.total) return html`<p class="waiting" role="status"><span class="pulse" /><span
    class="offscreen">Waiting for the answer</span></p>`;
  // `processed` includes what the cache already held.
  return html`<div class="waiting" role="status">
    <div class="progress" role="progressbar" aria-label="Reading the prompt" aria-valuemin="0" aria-valuemax=${progress.total}
      aria-valuenow=${progress.processed}><span style=${{ width: `${100 * progress.processed / progress.total}%` }} /></div>
    <span>Reading ${count(progress.processed)} of ${count(progress.total)} tokens</span></div>`;
}

function Figures({ node, state }) {
  if (state) {
    if (!state.firstAt) return null;
    const seconds = (state.lastAt - state.firstAt) / 1000;
    return html`<span class="figures numbers">${seconds > 0.2 && html`<span>${perSecond((state.pieces - 1) / seconds)} tok/s</span>`}
      <span>${duration(state.firstAt - state.startedAt)} to the first</span></span>`;
  }
  const { timings: t, stopped, finish_reason: finish, generation } = node.info;
  return html`<span class="figures numbers">
    ${node.info.corrected && html`<span>your correction</span>`}
    ${stopped && html`<span>stopped</span>`}
    ${finish === 'length' && html`<span>cut at its length</span>`}
    ${t && html`<span>${perSecond(t.predicted_per_second)} tok/s</span>`}
    ${Number.isFinite(t?.ttft_ms) && html`<span>${duration(t.ttft_ms)} to the first</span>`}
    ${t && html`<span>${count(t.predicted_n)} tokens</span>`}
    ${generation > 0 && html`<span title="Generation of learned weights">gen ${generation}</span>`}
  </span>`;
}

function AnswerActions({ conversation, node, last, busy, onCorrect }) {
  const { info } = node;
  const known = Boolean(info.request_id && node.content);
  // A page that was closed in the middle of an answer left it without a reason to end.
  const more = last && node.content && !info.corrected && !['stop', 'tool_calls'].includes(info.finish_reason);
  const pressed = (value) => String(info.rating === value);
  return html`
    <${Versions} conversation=${conversation} node=${node} disabled=${busy} />
    ${node.content && html`<${Copy} text=${node.content} />`}
    <${IconButton} icon="refresh" size="16" label="Another answer" disabled=${busy} onClick=${() => regenerate(conversation, node)} />
    ${more && html`<${IconButton} icon="forward" size="16" label="Continue" disabled=${busy} onClick=${() => continueAnswer(conversation, node)} />`}
    ${known && html`
      <${IconButton} icon="up" size="16" label="Good answer" aria-pressed=${pressed(1)} onClick=${() => rate(conversation, node, true)} />
      <${IconButton} icon="down" size="16" label="Bad answer" aria-pressed=${pressed(0)} onClick=${() => rate(conversation, node, false)} />
      <${IconButton} icon="pencil" size="16" label="Correct this answer" disabled=${busy} onClick=${onCorrect} />`}`;
}

export function Answer({ conversation, node, state, last, busy }) {
  const [correcting, setCorrecting] = useState(false);
  const { drafted, error } = node.info;
  const Text = useStore(settings).tint && drafted?.length ? Tinted : Markdown;
  const submit = async (text) => { if (await correct(conversation, node, text)) setCorrecting(false); };
  return html`<article class="message assistant" aria-label="Answer" aria-busy=${String(Boolean(state))}>
    ${node.content && !correcting && html`<${Text} node=${node} text=${node.content} streaming=${state?.phase === 'answer'} />`}
    ${correcting && html`<${Editor} initial=${node.content} label="The answer as it should have been" action="Record the correction"
      onCancel=${() => setCorrecting(false)} onSubmit=${submit} />`}
    ${state && state.phase !== 'answer' && html`<${Waiting} state=${state} />`}
    ${error && html`<div class="error-card" role="alert"><${Icon} name="warn" /><span>${error.message}</span>
      ${!node.content && html`<button type="button" class="button" onClick=${() => regenerate(conversation, node)}>Try again</button>`}</div>`}
    ${!correcting && html`<footer class="actions">
      ${!state && html`<${AnswerActions} conversation=${conversation} node=${node} last=${last} busy=${busy}
        onCorrect=${() => setCorrecting(true)} />`}
      <${Figures} node=${node} state=${state} />
    </footer>`}
  </article>`;
}
