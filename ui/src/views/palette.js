// Ctrl+K: find a conversation by what was said in it, begin a new one, or go to a page.
import { useEffect, useRef, useState } from 'preact/hooks';
import { when } from '../lib/format.js';
import { html } from '../lib/html.js';
import { search } from '../state/library.js';
import { Dialog } from './dialogs.js';
import { Icon } from './icons.js';

const PAGES = [['chat', 'New chat', '#/', 'plus'], ['dashboard', 'Dashboard', '#/dashboard', 'gauge'], ['router', 'Router', '#/router', 'route'],
  ['sona', 'SONA', '#/sona', 'spark']].map(([id, title, href, icon]) => ({ id, title, href, icon }));

export function Palette({ go, onClose }) {
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const list = useRef();
  const needle = text.trim().toLowerCase();
  const pages = PAGES.filter(({ id, title }) => id === 'chat' || title.toLowerCase().includes(needle));
  const found = search(text).slice(0, 30).map((c) => ({
    id: c.id, title: c.title || 'New conversation', href: `#/c/${c.id}`, icon: 'chat', note: when(c.updated),
  }));
  // With a text, what it finds comes first.
  const items = needle ? [...found, ...pages] : [...pages.slice(0, 1), ...found, ...pages.slice(1)];
  const chosen = Math.min(at, items.length - 1);
  useEffect(() => { list.current.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest' }); }, [chosen, text]);
  const open = (item) => { onClose(); go(item.href); };
  const onKeyDown = (event) => {
    if (event.key === 'ArrowDown') setAt((chosen + 1) % items.length);
    else if (event.key === 'ArrowUp') setAt((chosen + items.length - 1) % items.length);
    else if (event.key === 'Enter' && !event.isComposing) open(items[chosen]);
    else return;
    event.preventDefault();
  };
  return html`<${Dialog} label="Search" onClose=${onClose} class="palette">
    <div class="palette-field"><${Icon} name="search" />
      <input autofocus role="combobox" aria-expanded="true" aria-controls="found" aria-activedescendant=${`found-${chosen}`}
        aria-label="Search conversations"
        placeholder="Search conversations" value=${text} onKeyDown=${onKeyDown}
          onInput=${(event) => { setText(event.target.value); setAt(0); }} /></div>
    <ul ref=${list} id="found" role="listbox" aria-label="Found">${items.map((item, i) => html`
      <li key=${item.id} id=${`found-${i}`} role="option" aria-selected=${String(i === chosen)} onMouseMove=${() => setAt(i)}
        onClick=${() => open(item)}>
        <${Icon} name=${item.icon} size="16" /><span class="clip">${item.title}</span>${item.note && html`<small>${item.note}</small>`}</li>`)}</ul>
  </${Dialog}>`;
}
