// The settings drawer: profile, sampling, system prompt, key, data.
import { useRef, useState } from 'preact/hooks';
import { hasKey, setKey } from '../lib/api.js';
import { html } from '../lib/html.js';
import { useStore } from '../lib/store.js';
import { erase, exportAll, importAll, library } from '../state/library.js';
import { say } from '../state/notices.js';
import { change, DEFAULTS, FIELDS, problem, settings } from '../state/settings.js';
import { confirm, Drawer } from './dialogs.js';
import { Icon } from './icons.js';

export const PROFILES = [
  ['ruvltra-base', 'Base', 'Lively, for talk and stories'],
  ['ruvltra-coder', 'Coder', 'Careful and repeatable, for code'],
  ['ruvltra-agent', 'Agent', 'Steady, for tasks and tools'],
];

export function Segments({ label, options, value, onChange }) {
  return html`<div class="segments" role="radiogroup" aria-label=${label}>${options.map(([id, text, hint]) => html`
    <button type="button" role="radio" aria-checked=${String(id === value)} title=${hint} onClick=${() => onChange(id)}>${text}</button>`)}</div>`;
}

function NumberField({ name }) {
  const { label, min, max, step, hint } = FIELDS[name];
  const text = useStore(settings)[name];
  const wrong = problem(name, text);
  return html`<label class="setting"><span>${label}<small class=${wrong ? 'error-text' : ''}>${wrong || hint}</small></span>
    <input class="field small" inputmode="decimal" autocomplete="off" placeholder="default"
      value=${text} data-min=${min} data-max=${max} data-step=${step}
      aria-invalid=${String(Boolean(wrong))} onInput=${(event) => change({ [name]: event.target.value })} /></label>`;
}

function KeyField() {
  const [text, setText] = useState('');
  const [set, setSet] = useState(hasKey());
  const use = () => { setKey(text); setSet(hasKey()); setText(''); };
  return html`<div class="setting column-setting"><span>API key<small>kept in memory only: a reload forgets it</small></span>
    <div class="pair"><input class="field" type="password" autocomplete="off" spellcheck="false" aria-label="API key"
      placeholder=${set ? 'set' : 'none'}
      value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${(event) => { if (event.key === 'Enter') use(); }} />
      <button type="button" class="button" onClick=${use}>${text || !set ? 'Use' : 'Forget'}</button></div></div>`;
}

function save(text) {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  const link = Object.assign(document.createElement('a'), { href: url, download: `ruvltra-conversations-${new Date().toISOString().slice(0, 10)}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function Data() {
  const { conversations } = useStore(library);
  const file = useRef();
  const take = async (event) => {
    const [chosen] = event.target.files;
    event.target.value = '';
    if (!chosen) return;
    try {
      const n = await importAll(await chosen.text());
      say(n === 1 ? 'One conversation imported.' : `${n} conversations imported.`);
    } catch (error) {
      say(`${chosen.name}: ${error.message}`, 'error');
    }
  };
  const clear = async () => {
    const yes = await confirm({ title: 'Delete all conversations?', text: 'They are stored in this browser only, and will be gone.', action: 'Delete all', danger: true });
    if (yes) for (const conversation of [...conversations]) await erase(conversation);
  };
  const none = conversations.length === 0;
  return html`<div class="data">
    <button type="button" class="button" disabled=${none} onClick=${() => save(exportAll())}><${Icon} name="download" size="16" />Export</button>
    <button type="button" class="button" onClick=${() => file.current.click()}><${Icon} name="upload" size="16" />Import</button>
    <button type="button" class="button quiet-danger" disabled=${none} onClick=${clear}><${Icon} name="trash" size="16" />Delete all</button>
    <input ref=${file} type="file" accept="application/json,.json" class="offscreen" tabindex="-1" aria-label="File to import"
      onChange=${take} /></div>`;
}

export function Settings({ onClose }) {
  const set = useStore(settings);
  const [, , hint] = PROFILES.find(([id]) => id === set.profile) ?? PROFILES[0];
  return html`<${Drawer} title="Settings" onClose=${onClose}>
    <section><h3>Profile</h3>
      <${Segments} label="Profile" options=${PROFILES} value=${set.profile} onChange=${(profile) => change({ profile })} />
      <p class="hint">${hint}. The weights are the same.</p></section>
    <section><h3>System prompt</h3>
      <textarea class="field" rows="4" aria-label="System prompt" placeholder="How the model should behave" value=${set.system}
        onInput=${(event) => change({ system: event.target.value })} /></section>
    <section><h3>Answers</h3>${Object.keys(FIELDS).map((name) => html`<${NumberField} key=${name} name=${name} />`)}
      <label class="setting"><span>Use the bank<small>puts learned notes that fit before the question</small></span>
        <input type="checkbox" class="switch" role="switch" checked=${set.bank}
          onChange=${(event) => change({ bank: event.target.checked })} /></label>
      <label class="setting"><span>Tint drafted text<small>shows what speculative decoding foresaw, without formatting</small></span>
        <input type="checkbox" class="switch" role="switch" checked=${set.tint}
          onChange=${(event) => change({ tint: event.target.checked })} /></label>
      <button type="button" class="link"
        onClick=${() => change({ ...DEFAULTS, theme: set.theme, profile: set.profile, system: set.system })}>Back to the defaults</button></section>
    <section><h3>Connection</h3><${KeyField} /></section>
    <section><h3>Conversations</h3><p class="hint">Stored in this browser only.</p><${Data} /></section>
  </${Drawer}>`;
}
