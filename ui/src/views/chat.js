// The conversation: messages in one calm column, the composer below.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { short } from '../lib/format.js';
import { useStore } from '../lib/store.js';
import { path } from '../state/conversation.js';
import { live, send } from '../state/generation.js';
import { choose, find, library } from '../state/library.js';
import { server } from '../state/server.js';
import { Composer } from './composer.js';
import { IconButton, Mark } from './icons.js';
import { Answer, UserMessage } from './message.js';

const IDEAS = [
  'Tell me a story about a fox and a crow.',
  'Tell me a story about a clockmaker and the moon.',
  'Explain how a heat pump works, in three sentences.',
  'Write a haiku about patience.',
];

function Welcome({ onSent }) {
  const { model, state } = useStore(server);
  const meta = model?.meta;
  return html`<div class="welcome">
    <${Mark} size="44" />
    <h1>What is on your mind?</h1>
    <p class="muted">${meta ? `${model.id} · ${short(meta.n_params)} parameters · answers come from your own server`
      : state === 'ready' ? 'Answers come from your own server' : '\u00a0'}</p>
    <div class="ideas">${IDEAS.map((idea) => html`<button type="button" class="idea" onClick=${() => onSent(send(idea))}>${idea}</button>`)}</div>
  </div>`;
}

/** Follows the end of the text until the reader scrolls up. */
function useFollow(ref, id, signature) {
  const [away, setAway] = useState(false);
  const follows = useRef(true);
  const toEnd = () => { if (ref.current) ref.current.scrollTop = ref.current.scrollHeight; };
  // A scroll may be told of after the view is gone, so the element is the event's own.
  const onScroll = ({ currentTarget }) => {
    const { scrollTop, scrollHeight, clientHeight } = currentTarget;
    follows.current = scrollHeight - scrollTop - clientHeight < 60;
    setAway(!follows.current);
  };
  useLayoutEffect(() => { follows.current = true; toEnd(); }, [id]);
  useLayoutEffect(() => { if (follows.current) toEnd(); }, [signature]);
  return { away, onScroll, toEnd: () => { follows.current = true; toEnd(); } };
}

export function Chat({ id, go }) {
  const { loaded, version } = useStore(library);
  const states = useStore(live);
  const scroller = useRef();
  const conversation = id ? find(id) : undefined;
  useEffect(() => { if (loaded) choose(conversation?.id ?? null); }, [loaded, id, Boolean(conversation)]);
  const shown = conversation ? path(conversation) : [];
  const state = conversation && states[conversation.id];
  const { away, onScroll, toEnd } = useFollow(scroller, id, `${version} ${state?.phase}`);
  const onSent = (sent) => { go(`#/c/${sent.id}`); requestAnimationFrame(toEnd); };
  if (!loaded) return html`<div class="chat" />`;
  return html`<div class="chat">
    <div class="scroller" ref=${scroller} onScroll=${onScroll} tabindex="-1">
      ${shown.length === 0 ? html`<${Welcome} onSent=${onSent} />` : html`<div class="column" role="log" aria-label="Conversation">
        ${shown.map((node, i) => (node.role === 'user'
          ? html`<${UserMessage} key=${node.id} conversation=${conversation} node=${node} busy=${Boolean(state)} />`
          : html`<${Answer} key=${node.id} conversation=${conversation} node=${node} last=${i === shown.length - 1}
              busy=${Boolean(state)} state=${state?.nodeId === node.id ? state : null} />`))}
      </div>`}
    </div>
    ${away && html`<${IconButton} icon="bottom" label="To the latest message" class="to-end" onClick=${toEnd} />`}
    <${Composer} key=${conversation?.id ?? ''} conversation=${conversation} answering=${Boolean(state)} onSent=${onSent} />
  </div>`;
}
