// Modal dialogs on the browser's own <dialog>: focus stays inside, Esc closes, the page behind is inert.
import { useEffect, useRef, useState } from 'preact/hooks';
import { createStore, useStore } from '../lib/store.js';
import { onKeyNeeded } from '../lib/api.js';
import { html } from '../lib/html.js';
import { IconButton } from './icons.js';

export function Dialog({ label, onClose, class: extra = '', children }) {
  const ref = useRef();
  useEffect(() => {
    const before = document.activeElement;
    ref.current.showModal();
    return () => before?.focus?.();
  }, []);
  // A click on the backdrop lands on the dialog element itself.
  const outside = (event) => { if (event.target === ref.current) onClose(); };
  return html`<dialog ref=${ref} class=${`dialog ${extra}`} aria-label=${label} onMouseDown=${outside}
    onCancel=${(event) => { event.preventDefault(); onClose(); }}><div class="dialog-body">${children}</div></dialog>`;
}

const question = createStore(null);

/** Asks; resolves to true or false. */
export function confirm({ title, text, action, danger = false }) {
  return new Promise((resolve) => question.set({ title, text, action, danger, resolve }));
}

function Confirm() {
  const open = useStore(question);
  if (!open) return null;
  const end = (yes) => { question.set(null); open.resolve(yes); };
  return html`<${Dialog} label=${open.title} onClose=${() => end(false)}>
    <h2>${open.title}</h2>
    <p class="muted">${open.text}</p>
    <div class="dialog-actions">
      <button type="button" class="button" onClick=${() => end(false)}>Cancel</button>
      <button type="button" class=${`button ${open.danger ? 'danger' : 'primary'}`} onClick=${() => end(true)}>${open.action}</button>
    </div>
  </${Dialog}>`;
}

const keyPrompt = createStore(null);
onKeyNeeded((wasRefused) => new Promise((resolve) => keyPrompt.set({ wasRefused, resolve })));

function KeyPrompt() {
  const open = useStore(keyPrompt);
  const [text, setText] = useState('');
  if (!open) return null;
  const end = (value) => { keyPrompt.set(null); setText(''); open.resolve(value); };
  const submit = (event) => { event.preventDefault(); if (text.trim()) end(text); };
  return html`<${Dialog} label="API key" onClose=${() => end('')}>
    <form onSubmit=${submit}>
      <h2>This server asks for a key</h2>
      <p class="muted">It stays in the memory of this page: a reload forgets it, and nothing stores it.</p>
      ${open.wasRefused && html`<p class="error-text" role="alert">The server did not accept that key.</p>`}
      <input class="field" type="password" autocomplete="off" spellcheck="false" autofocus aria-label="API key" value=${text}
        onInput=${(event) => setText(event.target.value)} />
      <div class="dialog-actions">
        <button type="button" class="button" onClick=${() => end('')}>Not now</button>
        <button type="submit" class="button primary" disabled=${!text.trim()}>Use this key</button>
      </div>
    </form>
  </${Dialog}>`;
}

export const Dialogs = () => html`<${Confirm} /><${KeyPrompt} />`;

/** A panel from the right edge. */
export const Drawer = ({ title, onClose, children }) => html`
  <${Dialog} label=${title} onClose=${onClose} class="drawer">
    <header class="drawer-head"><h2>${title}</h2><${IconButton} icon="close" label="Close" onClick=${onClose} /></header>
    ${children}
  </${Dialog}>`;
