// The frame: side bar, top bar, the page of the address, dialogs, and the keys that work everywhere.
import { useEffect, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { useStore } from '../lib/store.js';
import { stop } from '../state/generation.js';
import { current, find, library } from '../state/library.js';
import { dismiss, notices } from '../state/notices.js';
import { look, server } from '../state/server.js';
import { change, settings } from '../state/settings.js';
import { Chat } from './chat.js';
import { Dashboard } from './dashboard.js';
import { Dialogs } from './dialogs.js';
import { IconButton } from './icons.js';
import { Palette } from './palette.js';
import { RouterPage } from './router.js';
import { PROFILES, Segments, Settings } from './settings.js';
import { Sidebar } from './sidebar.js';
import { SonaPage } from './sona.js';

/** #/ and #/c/ID are the chat; #/dashboard, #/router, #/sona the pages. */
function parseRoute() {
  const [page = '', id] = location.hash.replace(/^#\/?/, '').split('/');
  return ['dashboard', 'router', 'sona'].includes(page) ? { page } : { page: 'chat', id: page === 'c' ? id : undefined };
}

const go = (hash) => { if (location.hash !== hash) location.hash = hash; };
const narrow = matchMedia('(max-width: 860px)');

const TITLES = { dashboard: 'Dashboard', router: 'Router', sona: 'SONA' };

function Banner() {
  const { state, message, nextTry } = useStore(server);
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = state === 'unreachable' && setInterval(() => tick((n) => n + 1), 500);
    return () => clearInterval(timer);
  }, [state]);
  const text = {
    loading: 'The model is loading. You can write already; your message goes out when it is ready.',
    draining: 'The server is shutting down.',
    busy: `The server is busy: ${message}.`,
    unreachable: `The server cannot be reached. Trying again in ${Math.max(0, Math.ceil((nextTry - Date.now()) / 1000))} s.`,
  }[state];
  if (!text) return null;
  return html`<div class="banner" role="status"><span class="pulse" /><span>${text}</span>
    ${state === 'unreachable' && html`<button type="button" class="link" onClick=${look}>Try now</button>`}</div>`;
}

const Notices = () => html`<div class="notices" role="status" aria-live="polite">${useStore(notices).map(({ id, text, kind }) => html`
  <div key=${id} class=${`notice ${kind}`}><span>${text}</span><${IconButton} icon="close" size="14" label="Dismiss"
    onClick=${() => dismiss(id)} /></div>`)}</div>`;

function useKeys({ onSearch }) {
  useEffect(() => {
    const onKeyDown = (event) => {
      if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === 'k') {
        event.preventDefault();
        onSearch();
      } else if (event.key === 'Escape' && document.querySelector('.chat') && !document.querySelector('dialog[open]')) {
        stop(current());
      }
    };
    addEventListener('keydown', onKeyDown);
    return () => removeEventListener('keydown', onKeyDown);
  }, []);
}

export function App() {
  const [route, setRoute] = useState(parseRoute());
  const [open, setOpen] = useState(null);  // 'settings' or 'search'
  const [sidebar, setSidebar] = useState(!narrow.matches);
  const { profile } = useStore(settings);
  useStore(library);
  useKeys({ onSearch: () => setOpen('search') });
  useEffect(() => {
    const onHash = () => { setRoute(parseRoute()); if (narrow.matches) setSidebar(false); };
    const onWidth = () => setSidebar(!narrow.matches);
    addEventListener('hashchange', onHash);
    narrow.addEventListener('change', onWidth);
    return () => { removeEventListener('hashchange', onHash); narrow.removeEventListener('change', onWidth); };
  }, []);
  const title = TITLES[route.page] ?? (route.id && find(route.id)?.title) ?? '';
  useEffect(() => { document.title = title ? `${title} · ruvltra` : 'ruvltra'; }, [title]);
  const close = () => setOpen(null);
  return html`<div class=${`app ${sidebar ? 'with-sidebar' : ''}`}>
    <${Sidebar} route=${route} go=${go} onSearch=${() => setOpen('search')} onSettings=${() => setOpen('settings')}
      onHide=${() => setSidebar(false)} />
    ${sidebar && html`<div class="scrim" onClick=${() => setSidebar(false)} />`}
    <main>
      <header class="topbar">
        ${!sidebar && html`<${IconButton} icon="menu" label="Show the side bar" onClick=${() => setSidebar(true)} />`}
        <h1 class="clip">${title}</h1>
        ${route.page === 'chat' && html`<${Segments} label="Profile" options=${PROFILES} value=${profile}
          onChange=${(value) => change({ profile: value })} />`}
      </header>
      <${Banner} />
      ${route.page === 'chat' && html`<${Chat} id=${route.id} go=${go} />`}
      ${route.page === 'dashboard' && html`<${Dashboard} />`}
      ${route.page === 'router' && html`<${RouterPage} />`}
      ${route.page === 'sona' && html`<${SonaPage} />`}
    </main>
    ${open === 'settings' && html`<${Settings} onClose=${close} />`}
    ${open === 'search' && html`<${Palette} go=${go} onClose=${close} />`}
    <${Dialogs} /><${Notices} />
  </div>`;
}
