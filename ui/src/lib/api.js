// The HTTP API: keys, errors, streams. Every request of the page goes through `request`.
import { readEvents } from './sse.js';

/** What a refused request said: message and code of the API's error object, and Retry-After in seconds if given. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, type = null, retryAfter = null } = {}) {
    super(message);
    this.name = 'ApiError';
    Object.assign(this, { status, code, type, retryAfter });
  }
}

// In memory only: a reload forgets the key, and no script of another tab or a stolen profile finds it.
let key = '';
let asking = null;
// After "not now", what the page asks by itself asks no more; what the user does still prompts.
let declined = false;
let askForKey = async () => '';

export const setKey = (value) => {
  key = value.trim();
  declined = false;
};
export const hasKey = () => key !== '';
/** `ask(wasRefused)` shows the key prompt and resolves to a key, or to '' if the user gives none. */
export const onKeyNeeded = (ask) => { askForKey = ask; };

async function errorOf(response) {
  let message = `${response.status} ${response.statusText}`.trim();
  let code = null;
  let type = null;
  try {
    const { error } = await response.json();
    if (typeof error === 'string') message = error;
    else if (error && typeof error.message === 'string') ({ message, code = null, type = null } = error);
  } catch { /* not JSON, perhaps a proxy's page: the status line has to do */ }
  const after = Number.parseInt(response.headers.get('retry-after') ?? '', 10);
  return new ApiError(message, { status: response.status, code, type, retryAfter: after > 0 ? after : null });
}

async function send(path, { method = 'GET', body, signal } = {}) {
  const headers = { accept: 'application/json' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (key) headers.authorization = `Bearer ${key}`;
  try {
    return await fetch(path, {
      method, headers, signal, cache: 'no-store', credentials: 'omit',
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The server cannot be reached.', { code: 'unreachable' });
  }
}

/**
 * Sends a request; on 401 asks once for a key (one prompt, however many requests wait) and tries again. `background`: sent
 * by the page itself, again and again.
 */
export async function request(path, options = {}) {
  let used = key;
  let response = await send(path, options);
  while (response.status === 401) {
    if (used === key) {
      if (options.background && declined) throw await errorOf(response);
      asking ??= askForKey(used !== '').finally(() => { asking = null; });
      const given = await asking;
      declined = !given;
      if (!given) throw await errorOf(response);
      setKey(given);
    }
    used = key;
    response = await send(path, options);
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

export const getJson = async (path, options) => (await request(path, options)).json();
export const postJson = async (path, body, options) => (await request(path, { ...options, method: 'POST', body })).json();
export const remove = (path) => request(path, { method: 'DELETE' });

/** Yields the objects of an event stream. An `error` event is thrown as ApiError. */
export async function* stream(path, options) {
  const response = await request(path, options);
  for await (const event of readEvents(response)) {
    if (event.error) throw new ApiError(event.error.message ?? String(event.error), event.error);
    yield event;
  }
}

/** 'ready', 'loading', 'draining', 'busy' or 'unreachable'; needs no key. */
export async function readiness() {
  try {
    const response = await send('/ready');
    if (response.ok) return { state: 'ready' };
    const error = await errorOf(response);
    const state = { model_loading: 'loading', draining: 'draining' }[error.code] ?? 'busy';
    return { state, message: error.message, retryAfter: error.retryAfter };
  } catch {
    return { state: 'unreachable' };
  }
}
