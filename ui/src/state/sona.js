// What the server has learned: status and generations, and the few things that change them.
import { createStore } from '../lib/store.js';
import { getJson, postJson } from '../lib/api.js';
import { say } from './notices.js';

export const sona = createStore({ status: null, adapters: null, error: null });

export async function refresh() {
  try {
    const [status, adapters] = await Promise.all([getJson('/v1/sona/status', { background: true }), getJson('/v1/sona/adapters', { background: true })]);
    sona.set({ status, adapters, error: null });
  } catch (error) {
    sona.patch({ error: error.message });
  }
}

async function act(path, body, done) {
  try {
    const reply = await postJson(path, body);
    say(typeof done === 'function' ? done(reply) : done);
    return reply;
  } catch (error) {
    say(error.status === 409 ? 'Something was learned in the meantime. Look again before you go back.' : error.message, 'error');
    return null;
  } finally {
    await refresh();
  }
}

/** Compare and swap: refused if anything was published in this scope since the list was read. */
export function rollback({ generation: to, session_id }) {
  const live = sona.get().adapters.data.find((entry) => entry.live && entry.session_id === session_id);
  return act('/v1/sona/rollback', { to_generation: to, expected_generation: live?.generation ?? 0, session_id: session_id ?? undefined },
    ({ generation }) => `Back to what generation ${to} knew, as generation ${generation}.`);
}
export const reset = () => act('/v1/sona/reset', {}, 'Answers come from the model as it was made.');
export const freeze = (frozen) => act('/v1/sona/freeze', { frozen }, frozen ? 'Frozen: nothing new is learned.' : 'Learning goes on.');

export async function searchBank(query) {
  const found = await postJson('/v1/hnsw/search', { query, limit: 10 });
  return Array.isArray(found) ? found : [];
}
