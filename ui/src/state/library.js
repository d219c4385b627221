// All conversations: the list, the current one, and their way to and from disk.
import { createStore } from '../lib/store.js';
import * as db from '../lib/db.js';
import { createConversation, importConversation, matches } from './conversation.js';
import { say } from './notices.js';

// `version` grows with every change: conversations are changed in place (a streamed answer changes 50 times a second)
// and views draw again when it moves.
export const library = createStore({ loaded: false, conversations: [], currentId: null, version: 0 });

// Other tabs of this page: the one that is not writing shows what the other wrote.
const channel = 'BroadcastChannel' in window ? new BroadcastChannel('ruvltra') : null;

const dirty = new Map();
let timer = null;

async function flush() {
  timer = null;
  const waiting = [...dirty.values()];
  dirty.clear();
  for (const conversation of waiting) {
    try {
      await db.save(conversation);
      channel?.postMessage(conversation.id);
    } catch (error) {
      say(`This conversation could not be stored: ${error.message}`, 'error');
    }
  }
}

function bump(part = {}) {
  library.set((state) => ({ ...state, ...part, version: state.version + 1 }));
}

/** Says that a conversation has changed: views draw, and it is stored soon (`now`: at once). */
export function changed(conversation, now = false) {
  if (find(conversation.id)) {
    dirty.set(conversation.id, conversation);
    if (now) {
      clearTimeout(timer);
      flush();
    } else {
      timer ??= setTimeout(flush, 600);
    }
  }
  bump();
}

export async function openLibrary() {
  if (!(await db.openDatabase())) say('This browser window cannot store conversations; they end with the page.', 'error');
  const stored = await db.loadAll().catch(() => []);
  stored.sort((a, b) => b.updated - a.updated);
  bump({ loaded: true, conversations: stored });
  addEventListener('pagehide', flush);
  document.addEventListener('visibilitychange', () => { if (document.hidden) flush(); });
  channel?.addEventListener('message', ({ data }) => reload(data));
}

async function reload(id) {
  if (dirty.has(id)) return;
  const fresh = await db.load(id);
  const others = library.get().conversations.filter((c) => c.id !== id);
  bump({ conversations: fresh ? [fresh, ...others] : others });
}

export const find = (id) => library.get().conversations.find((c) => c.id === id);
export const current = () => find(library.get().currentId);
export const choose = (id) => bump({ currentId: id });

/** The current conversation, or a new one; a new one enters the list with its first message. */
export function currentOrNew() {
  const open = current();
  if (open) return open;
  const made = createConversation();
  bump({ conversations: [made, ...library.get().conversations], currentId: made.id });
  return made;
}

export function rename(conversation, title) {
  const text = title.trim().slice(0, 120);
  if (!text) return;
  Object.assign(conversation, { title: text, named: true });
  changed(conversation, true);
}

export async function erase(conversation) {
  dirty.delete(conversation.id);
  const { conversations, currentId } = library.get();
  bump({
    conversations: conversations.filter((c) => c !== conversation),
    currentId: currentId === conversation.id ? null : currentId,
  });
  await db.erase(conversation.id);
  channel?.postMessage(conversation.id);
}

/** Newest first; with a text only those that hold it. */
export function search(text) {
  const needle = text.trim().toLowerCase();
  const all = [...library.get().conversations].sort((a, b) => b.updated - a.updated);
  return needle ? all.filter((c) => matches(c, needle)) : all;
}

const FORMAT = 'ruvltra-conversations';

export function exportAll(conversations = library.get().conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, exported: new Date().toISOString(), conversations }, null, 1);
}

/** Adds the conversations of an exported file, all or none. Returns how many. Throws an Error that says what is wrong. */
export async function importAll(text) {
  let document;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new Error(`not a JSON file: ${error.message}`);
  }
  if (document?.format !== FORMAT) throw new Error(`format: expected "${FORMAT}"`);
  if (document.version !== 1) throw new Error(`version: expected 1, found ${JSON.stringify(document.version)}`);
  if (!Array.isArray(document.conversations)) throw new Error('conversations: expected a list');
  const made = document.conversations.map((source, i) => importConversation(source, `conversations[${i}]`));
  for (const conversation of made) await db.save(conversation);
  bump({ conversations: [...made, ...library.get().conversations], currentId: made[0]?.id ?? library.get().currentId });
  return made.length;
}
