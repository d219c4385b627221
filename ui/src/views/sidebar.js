// Conversations and pages; on a phone a drawer over the page.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { dayGroup } from '../lib/format.js';
import { html } from '../lib/html.js';
import { useStore } from '../lib/store.js';
import { live, stop } from '../state/generation.js';
import { erase, library, rename, search } from '../state/library.js';
import { server } from '../state/server.js';
import { change, settings } from '../state/settings.js';
import { confirm } from './dialogs.js';
import { Icon, IconButton, Mark } from './icons.js';

export const shortcut = /Mac|iPhone|iPad/.test(navigator.platform) ? '⌘K' : 'Ctrl K';

function Row({ conversation, active, busy, go }) {
  const [editing, setEditing] = useState(false);
  const field = useRef();
  useEffect(() => { if (editing) field.current.select(); }, [editing]);
  const title = conversation.title || 'New conversation';
  const ask = async () => {
    const yes = await confirm({ title: 'Delete this conversation?', text: `“${title}” will be gone from this browser.`, action: 'Delete', danger: true });
    if (!yes) return;
    stop(conversation);
    await erase(conversation);
    if (active) go('#/');
  };
  if (editing) {
    const done = (event) => { rename(conversation, event.target.value); setEditing(false); };
    const onKeyDown = (event) => {
      if (event.key === 'Enter') done(event);
      if (event.key === 'Escape') { event.stopPropagation(); setEditing(false); }
    };
    return html`<li class="row"><input ref=${field} class="field" aria-label="Name of the conversation" value=${title} onBlur=${done}
      onKeyDown=${onKeyDown} /></li>`;
  }
  return html`<li class=${`row ${active ? 'active' : ''}`}>
    <a href=${`#/c/${conversation.id}`} aria-current=${active ? 'page' : undefined}>${title}</a>
    ${busy && html`<span class="pulse" title="Answering" />`}
    <span class="row-actions">
      <${IconButton} icon="pencil" size="15" label="Rename" onClick=${() => setEditing(true)} />
      <${IconButton} icon="trash" size="15" label="Delete" onClick=${ask} />
    </span></li>`;
}

const PAGES = [['#/dashboard', 'gauge', 'Dashboard'], ['#/router', 'route', 'Router'], ['#/sona', 'spark', 'SONA']];
const THEMES = { auto: ['light', 'auto', 'Colours: as the system'], light: ['dark', 'sun', 'Colours: light'], dark: ['auto', 'moon', 'Colours: dark'] };

function Status() {
  const { state, model } = useStore(server);
  const text = { ready: model?.id ?? 'Ready', loading: 'Loading the model', draining: 'Shutting down', busy: 'Busy', unreachable: 'Not reachable' }[state] ?? 'Connecting';
  return html`<span class="status" role="status"><span class=${`dot ${state}`} /><span class="clip">${text}</span></span>`;
}

// The library changes with every piece of an answer, the list hardly ever: the same markup is skipped by Preact.
function List({ route, go }) {
  useStore(library);
  const states = useStore(live);
  const shown = search('').map((conversation) => ({ conversation, day: dayGroup(conversation.updated) }));
  const busy = Object.keys(states).join();
  const signature = shown.map(({ conversation: c, day }) => `${c.id}${c.title}${day}`).join('\n');
  return useMemo(() => html`<ul>${shown.map(({ conversation: c, day }, i) => html`
    ${day !== shown[i - 1]?.day && html`<li class="day" key=${day}>${day}</li>`}
    <${Row} key=${c.id} conversation=${c} go=${go} busy=${Boolean(states[c.id])} active=${route.page === 'chat' && route.id === c.id} />`)}</ul>`,
  [signature, busy, route.page, route.id]);
}

export function Sidebar({ route, go, onSearch, onSettings, onHide }) {
  const { theme } = useStore(settings);
  const [nextTheme, icon, label] = THEMES[theme] ?? THEMES.auto;
  return html`<nav class="sidebar" aria-label="Conversations and pages">
    <div class="brand"><${Mark} /><a href="#/" class="wordmark">ruvltra</a>
      <${IconButton} icon="panel" label="Hide the side bar" onClick=${onHide} /></div>
    <a class="nav primary-nav" href="#/"><${Icon} name="plus" />New chat</a>
    <button type="button" class="nav" onClick=${onSearch}><${Icon} name="search" />Search<kbd>${shortcut}</kbd></button>
    <div class="list"><${List} route=${route} go=${go} /></div>
    <div class="pages">${PAGES.map(([href, name, text]) => html`<a class=${`nav ${`#/${route.page}` === href ? 'active' : ''}`} href=${href}
      aria-current=${`#/${route.page}` === href ? 'page' : undefined}><${Icon} name=${name} />${text}</a>`)}</div>
    <div class="foot"><${Status} />
      <${IconButton} icon=${icon} label=${label} onClick=${() => change({ theme: nextTheme })} />
      <${IconButton} icon="sliders" label="Settings" onClick=${onSettings} /></div>
  </nav>`;
}
