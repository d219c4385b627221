// Asking for answers: send, stop, regenerate, edit, continue, feedback. One answer at a time per conversation.
import { createStore } from '../lib/store.js';
import { ApiError, postJson, stream } from '../lib/api.js';
import { addDrafted, addNode, newId, path, pathTo } from './conversation.js';
import { changed, currentOrNew } from './library.js';
import { say } from './notices.js';
import { look, whenReady } from './server.js';
import { requestOptions, settings } from './settings.js';

// conversation id -> {nodeId, phase, progress, startedAt, firstAt, pieces, retryAt, reason}; phase: 'loading' (no model
// yet), 'retry' (the server said when), 'waiting' (sent), 'prompt' (being read), 'answer'.
export const live = createStore({});
const controllers = new Map();

const MAX_TRIES = 6;

function update(conversation, part) {
  live.set((all) => (all[conversation.id] ? { ...all, [conversation.id]: { ...all[conversation.id], ...part } } : all));
}

export const isAnswering = (conversation) => Boolean(conversation && live.get()[conversation.id]);
export const stop = (conversation) => controllers.get(conversation?.id)?.abort();

/** The messages for the model: the path to `node`, with the system prompt before and without answers that failed. */
function messagesTo(conversation, node) {
  const system = settings.get().system.trim();
  const shown = pathTo(conversation, node).filter(({ content }) => content !== '').map(({ role, content }) => ({ role, content }));
  return system ? [{ role: 'system', content: system }, ...shown] : shown;
}

// The server counts tokens, the page only pieces of text: after the last chunk its figures replace ours.
function take(conversation, node, event) {
  const { info } = node;
  if (event.prompt_progress) update(conversation, { phase: 'prompt', progress: event.prompt_progress });
  const choice = event.choices?.[0];
  const text = choice?.delta?.content ?? choice?.text ?? '';
  if (text) {
    const now = performance.now();
    const state = live.get()[conversation.id];
    // In place: a piece is not drawn by itself (attempt() draws).
    Object.assign(state, { phase: 'answer', pieces: state.pieces + 1, firstAt: state.firstAt ?? now, lastAt: now });
    if (event.drafted) addDrafted(node, text.length);
    node.content += text;
  }
  if (choice?.finish_reason) info.finish_reason = choice.finish_reason;
  if (event.timings) info.timings = event.timings;
  if (event.usage) info.usage = event.usage;
  if (event.model) info.model = event.model;
  if (event.ruvltra) {
    info.generation = event.ruvltra.adapter_generation;
    info.seed = event.ruvltra.seed;
  }
  if (event.id && !info.continued) info.request_id = event.id;
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => { clearTimeout(timer); reject(new DOMException('stopped', 'AbortError')); });
  });
}

/** One try. `open(signal)` returns the event stream. */
async function attempt(conversation, node, open, signal) {
  update(conversation, { phase: 'loading' });
  await whenReady(signal);
  update(conversation, { phase: 'waiting', startedAt: performance.now(), firstAt: null, pieces: 0, progress: null });
  // However fast the pieces come, they are drawn once per frame, and a long text, which takes longer, less often.
  let timer = 0;
  const draw = () => { timer = 0; update(conversation, {}); changed(conversation); };
  try {
    for await (const event of open(signal)) {
      take(conversation, node, event);
      timer ||= setTimeout(draw, Math.max(16, node.content.length / 200));
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Whether to try again: not once any text has come. Waits as long as the server asked for. */
async function mayRetry(conversation, error, signal) {
  if (error.code === 'model_loading' || error.code === 'unreachable') {
    await look();
    return true;
  }
  if ((error.status === 429 || error.status === 503) && error.retryAfter) {
    update(conversation, { phase: 'retry', retryAt: Date.now() + 1000 * error.retryAfter, reason: error.message });
    await pause(1000 * error.retryAfter, signal);
    return true;
  }
  return false;
}

async function answer(conversation, node, open) {
  const controller = new AbortController();
  controllers.set(conversation.id, controller);
  const before = node.content;
  node.info = { ...node.info, error: null, stopped: false, finish_reason: null };
  live.set((all) => ({ ...all, [conversation.id]: { nodeId: node.id, phase: 'waiting', pieces: 0, firstAt: null } }));
  changed(conversation);
  try {
    for (let tries = 1; ; tries++) {
      try {
        await attempt(conversation, node, open, controller.signal);
        break;
      } catch (error) {
        const fresh = error instanceof ApiError && node.content === before && tries < MAX_TRIES;
        if (!fresh || !(await mayRetry(conversation, error, controller.signal))) throw error;
      }
    }
  } catch (error) {
    if (controller.signal.aborted) node.info.stopped = true;
    else node.info.error = { message: error instanceof ApiError ? error.message : 'The connection was lost.', code: error.code ?? null };
  } finally {
    controllers.delete(conversation.id);
    live.set(({ [conversation.id]: _, ...others }) => others);
    conversation.updated = Date.now();
    changed(conversation, true);
  }
}

const chat = (conversation, user, extra = {}) => (signal) => stream('/v1/chat/completions', {
  method: 'POST',
  signal,
  body: {
    ...requestOptions(), ...extra,
    messages: messagesTo(conversation, user),
    session_id: conversation.id,
    stream: true, stream_options: { include_usage: true }, return_progress: true,
  },
});

function ask(conversation, user, extra) {
  const node = addNode(conversation, user.id, 'assistant', '');
  return answer(conversation, node, chat(conversation, user, extra));
}

/** Adds a message to the current conversation (a new one if there is none) and asks for its answer. */
export function send(text) {
  const conversation = currentOrNew();
  if (isAnswering(conversation)) return conversation;
  const last = path(conversation).at(-1);
  ask(conversation, addNode(conversation, last?.id ?? null, 'user', text));
  return conversation;
}

/** Another answer beside this one. A profile may fix the seed; the same answer again would be no answer. */
export function regenerate(conversation, node) {
  if (isAnswering(conversation)) return;
  const extra = settings.get().seed.trim() === '' ? { seed: crypto.getRandomValues(new Uint32Array(1))[0] } : {};
  ask(conversation, conversation.nodes[node.parent], extra);
}

/** The question as it should have been: a branch beside the old one, which stays. */
export function edit(conversation, node, text) {
  if (isAnswering(conversation)) return;
  ask(conversation, addNode(conversation, node.parent, 'user', text));
}

/**
 * Goes on with an answer that was cut off, from its last token. The chat route would close the message first, so the
 * prompt is rendered, turned into tokens and given to the completions route with the answer so far behind it.
 */
export async function continueAnswer(conversation, node) {
  if (isAnswering(conversation)) return;
  const messages = messagesTo(conversation, conversation.nodes[node.parent]);
  // parse_special would turn such text of a message into a control token, which message text must never become.
  if (messages.some(({ content }) => content.includes('<|'))) {
    say('An answer to a text with “<|” in it cannot be continued.', 'error');
    return;
  }
  node.info.continued = true;
  await answer(conversation, node, async function* (signal) {
    const { prompt } = await postJson('/apply-template', { messages }, { signal });
    const head = await postJson('/tokenize', { content: prompt, add_special: false, parse_special: true }, { signal });
    const tail = await postJson('/tokenize', { content: node.content, add_special: false, parse_special: false }, { signal });
    yield* stream('/v1/completions', {
      method: 'POST',
      signal,
      body: {
        ...requestOptions(), prompt: [...head.tokens, ...tail.tokens],
        stream: true, stream_options: { include_usage: true }, return_progress: true,
      },
    });
  });
}

/** Tells the server how good an answer was: quality 1 or 0. */
export async function rate(conversation, node, good) {
  try {
    await postJson('/v1/feedback', { request_id: node.info.request_id, session_id: conversation.id, quality: good ? 1 : 0, feedback_id: newId() });
    node.info.rating = good ? 1 : 0;
    changed(conversation, true);
    say(good ? 'Thank you. More like this.' : 'Thank you. Noted.');
  } catch (error) {
    say(`The feedback was not taken: ${error.message}`, 'error');
  }
}

/** Tells the server what the answer should have been, and goes on with that text in its place. */
export async function correct(conversation, node, text) {
  try {
    await postJson('/v1/feedback', { request_id: node.info.request_id, session_id: conversation.id, correction: text, feedback_id: newId() });
    addNode(conversation, node.parent, 'assistant', text, { corrected: true });
    changed(conversation, true);
    say('Thank you. The correction was recorded.');
    return true;
  } catch (error) {
    say(`The correction was not taken: ${error.message}`, 'error');
    return false;
  }
}
