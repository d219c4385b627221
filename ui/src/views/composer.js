// Where a message is written. Enter sends, Shift+Enter breaks the line, Esc stops the answer (views/app.js).
import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.js';
import { useStore } from '../lib/store.js';
import { send, stop } from '../state/generation.js';
import { server } from '../state/server.js';
import { Icon } from './icons.js';

// On a phone the return key breaks the line; there is a button to send with.
const touch = matchMedia('(pointer: coarse)');
// Drafts outlive a look at another conversation or page, not a reload.
const drafts = new Map();

export function Composer({ conversation, answering, onSent }) {
  const key = conversation?.id ?? '';
  const [text, setText] = useState(drafts.get(key) ?? '');  // one composer per conversation: views/chat.js gives it a key
  const { state } = useStore(server);
  const ref = useRef();
  useEffect(() => { if (!touch.matches) ref.current.focus(); }, []);
  useEffect(() => {
    drafts.set(key, text);
    ref.current.style.height = 'auto';
    ref.current.style.height = `${Math.min(ref.current.scrollHeight, 260)}px`;
  }, [text]);

  const submit = () => {
    if (!text.trim() || answering) return;
    setText('');
    drafts.delete(key);
    onSent(send(text.trim()));
  };
  const onKeyDown = (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || touch.matches) return;
    event.preventDefault();
    submit();
  };
  return html`<div class="composer">
    <div class="composer-box">
      <textarea ref=${ref} rows="1" aria-label="Message" placeholder=${state === 'loading' ? 'Write while the model loads' : 'Ask anything'}
        value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${onKeyDown} />
      ${answering
        ? html`<button type="button" class="round stop" aria-label="Stop" title="Stop (Esc)"
          onClick=${() => stop(conversation)}><${Icon} name="stop" size="24" /></button>`
        : html`<button type="button" class="round" aria-label="Send" title="Send (Enter)" disabled=${!text.trim()}
          onClick=${submit}><${Icon} name="send" size="20" /></button>`}
    </div>
  </div>`;
}
