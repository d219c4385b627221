// Is the server there, is its model loaded, and which model is it?
import { createStore } from '../lib/store.js';
import { getJson, readiness } from '../lib/api.js';

// state: 'unknown', 'ready', 'loading', 'draining', 'busy' or 'unreachable'; model: the entry of /v1/models, or null.
export const server = createStore({ state: 'unknown', message: '', model: null, nextTry: 0 });

const PAUSE_MS = { ready: 15000, loading: 1000, draining: 3000, busy: 2000 };
let failures = 0;
let timer = null;

async function fetchModel() {
  try {
    const { data } = await getJson('/v1/models', { background: true });
    server.patch({ model: data.find((entry) => entry.meta) ?? data[0] ?? null });
  } catch { /* no key yet, or just gone: the next look asks again */ }
}

/** Asks /ready now, and again after a pause that grows while nobody answers. */
export async function look() {
  clearTimeout(timer);
  const { state, message = '' } = await readiness();
  failures = state === 'unreachable' ? failures + 1 : 0;
  const pause = PAUSE_MS[state] ?? Math.min(15000, 1000 * 2 ** Math.min(failures - 1, 4));
  server.patch({ state, message, nextTry: Date.now() + pause });
  timer = setTimeout(look, pause);
  if (state === 'ready' && !server.get().model) fetchModel();
}

export function startWatching() {
  look();
  document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });
}

/** Resolves when requests are accepted (a busy server queues them). Rejects with an AbortError. */
export function whenReady(signal) {
  const open = ({ state }) => state === 'ready' || state === 'busy' || state === 'unknown';
  if (open(server.get())) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const stop = server.watch((value) => { if (open(value)) { stop(); resolve(); } });
    signal?.addEventListener('abort', () => { stop(); reject(new DOMException('stopped', 'AbortError')); });
  });
}
