// Short messages at the edge of the page, read out by screen readers.
import { createStore } from '../lib/store.js';

export const notices = createStore([]);
let next = 1;

export function dismiss(id) {
  notices.set((list) => list.filter((notice) => notice.id !== id));
}

/** kind: 'info' goes by itself, 'error' stays twice as long. */
export function say(text, kind = 'info') {
  const notice = { id: next++, text, kind };
  notices.set((list) => [...list.slice(-2), notice]);
  setTimeout(() => dismiss(notice.id), kind === 'error' ? 9000 : 4500);
}
