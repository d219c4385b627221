// Line icons on a 24 x 24 grid, drawn for this page.
import { html } from '../lib/html.js';

const PATHS = {
  plus: 'M12 5v14M5 12h14',
  search: 'M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14ZM16.2 16.2 20 20',
  menu: 'M4 7h16M4 12h16M4 17h10',
  panel: 'M4.5 5h15a1 1 0 0 1 1 1v12a1 1 0 0 1-1 1h-15a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1ZM9.5 5v14',
  sliders: 'M4 8h9M17 8h3M4 16h3M11 16h9M15 5.8v4.4M9 13.8v4.4',
  gauge: 'M4.5 17a8.5 8.5 0 1 1 15 0M12 15l3.5-4.5',
  route: 'M6 6.5h5a3.5 3.5 0 0 1 0 7H9a2.5 2.5 0 0 0 0 5h9M15.5 16l2.5 2.5-2.5 2.5M4 6.5a1 1 0 1 0 2 0 1 1 0 0 0-2 0',
  spark: 'M12 4c.6 4.6 2.4 7 8 8-5.6 1-7.4 3.4-8 8-.6-4.6-2.4-7-8-8 5.6-1 7.4-3.4 8-8Z',
  copy: 'M9 9h10v10H9zM5.5 15H5V5h10v.5',
  check: 'M5 12.5 10 17 19 7',
  refresh: 'M19 12a7 7 0 1 1-2.3-5.2M19 4v4h-4',
  pencil: 'M5 19l1-4L16 5l3 3L9 18l-4 1Z',
  up: 'M7 20H4.5v-9H7M7 11l4-7c1.5 0 2.5 1 2.2 2.7L12.7 9.5H18a2 2 0 0 1 2 2.4l-1.2 6a2.5 2.5 0 0 1-2.5 2.1H7',
  down: 'M7 4H4.5v9H7M7 13l4 7c1.5 0 2.5-1 2.2-2.7l-.5-2.8H18a2 2 0 0 0 2-2.4l-1.2-6A2.5 2.5 0 0 0 16.3 4H7',
  stop: 'M7 7h10v10H7z',
  send: 'M12 19V5M6 11l6-6 6 6',
  left: 'M14.5 6 9 12l5.5 6',
  right: 'M9.5 6 15 12l-5.5 6',
  bottom: 'M12 5v14M6 13l6 6 6-6',
  close: 'M6 6l12 12M18 6 6 18',
  trash: 'M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.5 11v5M13.5 11v5',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  upload: 'M12 16V5M7 9l5-5 5 5M5 20h14',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  forward: 'M5 6l6 6-6 6M13 6l6 6-6 6',
  undo: 'M9 7 5 11l4 4M5 11h9a5 5 0 0 1 0 10h-2',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1M5.6 18.4l1.1-1.1M17.3 6.7l1.1-1.1',
  moon: 'M20 14.5A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.5Z',
  auto: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16ZM12 4v16M12 8h5.5M12 12h8M12 16h6',
  chat: 'M5 5h14a1.5 1.5 0 0 1 1.5 1.5v9A1.5 1.5 0 0 1 19 17h-7l-4.5 3.5V17H5a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 5 5Z',
  snow: 'M12 3v18M4.2 7.5l15.6 9M19.8 7.5l-15.6 9M9.5 4.5 12 7l2.5-2.5M9.5 19.5 12 17l2.5 2.5',
  warn: 'M12 8.5v4.5M12 16.5h.01M12 4 3.5 19h17L12 4Z',
};

export const Icon = ({ name, size = 18 }) => html`
  <svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.7"
    stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;

/** The mark of the program: two waves, the small one learning from the large. */
export const Mark = ({ size = 26 }) => html`
  <svg class="mark" width=${size} height=${size} viewBox="0 0 32 32" aria-hidden="true">
    <rect width="32" height="32" rx="9" /><path d="M9 20c3.5-9 10.5-9 14 0M12.5 22.5c2-5 5-5 7 0" /></svg>`;

export const IconButton = ({ icon, label, size, class: extra = '', ...rest }) => html`
  <button type="button" class=${`icon-button ${extra}`} aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} size=${size} /></button>`;
