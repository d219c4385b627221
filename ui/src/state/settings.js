// What the user has set: kept in localStorage, except the key, which lib/api.js keeps in memory.
import { createStore } from '../lib/store.js';

const KEY = 'ruvltra-settings';

// An empty field is not sent: the server's profile decides.
export const DEFAULTS = {
  profile: 'ruvltra-base', system: '', temperature: '', top_p: '', top_k: '', max_tokens: '', seed: '', bank: false, tint: false, theme: 'auto',
};

// The server's own ranges: outside, it would answer 400.
export const FIELDS = {
  temperature: { label: 'Temperature', min: 0, max: 2, step: 0.05, hint: '0 always takes the likeliest token' },
  top_p: { label: 'Top-p', min: 0.01, max: 1, step: 0.01, hint: 'share of the probability kept' },
  top_k: { label: 'Top-k', min: 0, max: 200000, step: 1, whole: true, hint: '0 keeps every token' },
  max_tokens: { label: 'Longest answer', min: 1, max: 2147483647, step: 1, whole: true, hint: 'in tokens' },
  seed: { label: 'Seed', min: -9007199254740991, max: 9007199254740991, step: 1, whole: true, hint: 'the same seed, the same answer' },
};

function read() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? '{}');
    return Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) =>
      [name, typeof stored[name] === typeof value ? stored[name] : value]));
  } catch {
    return { ...DEFAULTS };  // storage forbidden, or another program's text
  }
}

export const settings = createStore(read());

export function change(part) {
  settings.patch(part);
  try {
    localStorage.setItem(KEY, JSON.stringify(settings.get()));
  } catch { /* storage forbidden: the settings hold for this page */ }
}

/** What is wrong with a field's text, or ''. */
export function problem(name, text) {
  if (text.trim() === '') return '';
  const { min, max, whole } = FIELDS[name];
  const value = Number(text);
  if (!Number.isFinite(value)) return 'a number, please';
  if (whole && !Number.isInteger(value)) return 'a whole number, please';
  return value < min || value > max ? `between ${min} and ${max}` : '';
}

/** The part of a chat request that the settings decide. */
export function requestOptions() {
  const set = settings.get();
  const options = { model: set.profile };
  for (const name of Object.keys(FIELDS)) {
    if (set[name].trim() !== '' && !problem(name, set[name])) options[name] = Number(set[name]);
  }
  if (set.bank) options.bank = true;
  if (set.tint) options.return_drafted = true;
  return options;
}

/** auto follows the system (prefers-color-scheme); the stylesheet does the rest. */
export function applyTheme() {
  const show = ({ theme }) => {
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  show(settings.get());
  settings.watch(show);
}

export const isDark = () => {
  const { theme } = settings.get();
  return theme === 'dark' || (theme === 'auto' && matchMedia('(prefers-color-scheme: dark)').matches);
};
