// A conversation is a tree of messages: editing or regenerating adds a sibling and loses nothing. What is shown, and sent
// to the model, is one path from the root; every message remembers which of its children is on it.
//
//   conversation {id, title, named, created, updated, children, active, nodes: {id: node}}
//   node         {id, parent (null: the root), role, content, time, children, active, info}
//
// Invariants: `children` hold ids of `nodes` whose `parent` is the holder; `active` indexes `children`.

export const ROLES = ['user', 'assistant'];

// crypto.randomUUID exists only on https and localhost; a server in the house is neither.
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, '0')).join('');
}

export function createConversation(now = Date.now()) {
  return { id: newId(), title: '', named: false, created: now, updated: now, children: [], active: 0, nodes: {} };
}

const holder = (conversation, parent) => (parent === null ? conversation : conversation.nodes[parent]);

/** Adds a message under `parent` (null: first message) and puts it on the shown path. */
export function addNode(conversation, parent, role, content, info = {}) {
  const node = { id: newId(), parent, role, content, time: Date.now(), children: [], active: 0, info };
  conversation.nodes[node.id] = node;
  const above = holder(conversation, parent);
  above.children.push(node.id);
  above.active = above.children.length - 1;
  if (role === 'user' && !conversation.named && !conversation.title) conversation.title = titleOf(content);
  conversation.updated = node.time;
  return node;
}

export function titleOf(text) {
  const line = text.trim().replace(/\s+/g, ' ');
  return line.length <= 60 ? line : `${line.slice(0, 57).replace(/\s+\S*$/, '')}…`;
}

/** Says that the next `length` characters of a message's content were drafted: ranges [begin, end), ascending, apart. */
export function addDrafted({ content, info }, length) {
  info.drafted ??= [];
  const last = info.drafted.at(-1);
  if (last?.[1] === content.length) last[1] += length;
  else info.drafted.push([content.length, content.length + length]);
}

/** A message's content cut into [{text, drafted}], in order. */
export function draftedPieces({ content, info }) {
  const pieces = [];
  let at = 0;
  for (const [begin, end] of info.drafted) {
    pieces.push({ text: content.slice(at, begin), drafted: false }, { text: content.slice(begin, end), drafted: true });
    at = end;
  }
  return [...pieces, { text: content.slice(at), drafted: false }].filter(({ text }) => text);
}

/** The shown messages, first to last. */
export function path(conversation) {
  const shown = [];
  for (let at = conversation; at.children.length > 0;) {
    at = conversation.nodes[at.children[at.active]];
    shown.push(at);
  }
  return shown;
}

/** The messages down to and including `node`. */
export function pathTo(conversation, node) {
  const up = [];
  for (let at = node; at; at = at.parent === null ? null : conversation.nodes[at.parent]) up.push(at);
  return up.reverse();
}

/** Which of how many versions a message is, from 0. */
export function versions(conversation, node) {
  const ids = holder(conversation, node.parent).children;
  return { index: ids.indexOf(node.id), total: ids.length };
}

export function showVersion(conversation, node, index) {
  const above = holder(conversation, node.parent);
  above.active = Math.max(0, Math.min(above.children.length - 1, index));
}

/** Whether any message or the title holds the lower-case text. */
export function matches(conversation, needle) {
  if (conversation.title.toLowerCase().includes(needle)) return true;
  return Object.values(conversation.nodes).some((node) => node.content.toLowerCase().includes(needle));
}

const MAX_NODES = 20_000;

function expect(condition, where, expected, found) {
  if (!condition) throw new Error(`${where}: expected ${expected}, found ${found === null ? 'null' : typeof found}`);
}

const time = (value) => (Number.isFinite(value) ? value : Date.now());

const isRange = (range, i, all) => Array.isArray(range) && range.length === 2 && range.every(Number.isInteger)
  && range[0] >= (all[i - 1]?.[1] ?? 0) && range[0] < range[1];

// Only what the page itself stores of an answer; an imported file cannot plant anything else.
function cleanInfo(info, content) {
  const kept = {};
  if (!info || typeof info !== 'object') return kept;
  for (const name of ['request_id', 'model', 'finish_reason', 'rating', 'corrected', 'stopped', 'timings', 'generation', 'seed']) {
    const value = info[name];
    if (['string', 'number', 'boolean'].includes(typeof value)) kept[name] = value;
  }
  if (info.timings && typeof info.timings === 'object') {
    const { predicted_n, predicted_per_second, ttft_ms, prompt_n, cache_n } = info.timings;
    kept.timings = { predicted_n, predicted_per_second, ttft_ms, prompt_n, cache_n };
    for (const [name, value] of Object.entries(kept.timings)) if (!Number.isFinite(value)) delete kept.timings[name];
  }
  const { drafted } = info;
  if (Array.isArray(drafted) && drafted.every(isRange) && (drafted.at(-1)?.[1] ?? 0) <= content.length) kept.drafted = drafted;
  return kept;
}

/** A fresh, valid conversation made from a foreign object, under a new id. Throws an Error that names the place. */
export function importConversation(source, where) {
  expect(source && typeof source === 'object' && !Array.isArray(source), where, 'an object', source);
  const nodes = source.nodes;
  expect(nodes && typeof nodes === 'object' && !Array.isArray(nodes), `${where}.nodes`, 'an object', nodes);
  if (Object.keys(nodes).length > MAX_NODES) throw new Error(`${where}.nodes: at most ${MAX_NODES} messages`);
  const made = createConversation();
  made.title = typeof source.title === 'string' ? titleOf(source.title) : '';
  made.named = source.named === true;
  made.created = time(source.created);

  // Breadth first from the root with ids of our own: unreachable messages are left behind, cycles found.
  const renamed = new Map();
  const queue = [[source, null, where]];
  for (let next = queue.shift(); next; next = queue.shift()) {
    const [from, parent, place] = next;
    expect(Array.isArray(from.children), `${place}.children`, 'a list', from.children);
    for (const id of from.children) {
      const at = `${where}.nodes.${String(id).slice(0, 40)}`;
      const node = Object.hasOwn(nodes, id) ? nodes[id] : undefined;
      expect(node && typeof node === 'object', at, 'a message', node);
      if (renamed.has(id)) throw new Error(`${at}: appears twice`);
      expect(ROLES.includes(node.role), `${at}.role`, 'user or assistant', node.role);
      expect(typeof node.content === 'string', `${at}.content`, 'a string', node.content);
      const added = addNode(made, parent, node.role, node.content, cleanInfo(node.info, node.content));
      added.time = time(node.time);
      renamed.set(id, added.id);
      queue.push([node, added.id, at]);
    }
    const above = holder(made, parent);
    if (Number.isInteger(from.active)) above.active = Math.max(0, Math.min(above.children.length - 1, from.active));
  }
  made.updated = time(source.updated);
  return made;
}
