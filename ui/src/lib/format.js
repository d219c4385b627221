// Numbers and times for people.

const whole = new Intl.NumberFormat('en');

export const count = (n) => (Number.isFinite(n) ? whole.format(Math.round(n)) : '–');

/** Three significant digits and a letter: 3.41 M. */
export function short(n) {
  if (!Number.isFinite(n)) return '–';
  for (const [size, letter] of [[1e9, 'B'], [1e6, 'M'], [1e3, 'K']]) {
    if (Math.abs(n) >= size) return `${Number((n / size).toPrecision(3))} ${letter}`;
  }
  return String(Number(n.toPrecision(3)));
}

export function bytes(n) {
  if (!Number.isFinite(n)) return '–';
  for (const [size, unit] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']]) {
    if (n >= size) return `${Number((n / size).toPrecision(3))} ${unit}`;
  }
  return `${n} B`;
}

export function percent(share) {
  if (!Number.isFinite(share)) return '–';
  return share > 0 && share < 0.005 ? '<1 %' : `${(100 * share).toFixed(0)} %`;
}

export const fixed = (n, digits = 2) => (Number.isFinite(n) ? n.toFixed(digits) : '–');

export function rate(perSecond) {
  if (!Number.isFinite(perSecond)) return '–';
  return perSecond >= 100 ? whole.format(Math.round(perSecond)) : perSecond.toFixed(1);
}

/** 340 ms, 2.4 s, 3 min 20 s, 2 h 5 min. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return '–';
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 60e3) return `${(ms / 1000).toFixed(ms < 10e3 ? 1 : 0)} s`;
  if (ms < 3600e3) return `${Math.floor(ms / 60e3)} min ${Math.floor((ms % 60e3) / 1000)} s`;
  if (ms < 48 * 3600e3) return `${Math.floor(ms / 3600e3)} h ${Math.floor((ms % 3600e3) / 60e3)} min`;
  return `${Math.floor(ms / 86400e3)} days`;
}

export const signed = (n, digits = 3) => (Number.isFinite(n) ? `${n > 0 ? '+' : n < 0 ? '−' : ''}${Math.abs(n).toFixed(digits)}` : '–');

/** API times are seconds, milliseconds or ISO text; a Date, or null. */
export function toDate(value) {
  if (value === null || value === undefined || value === '') return null;
  const date = typeof value === 'number' ? new Date(value > 1e11 ? value : value * 1000) : new Date(value);
  return Number.isNaN(date.getTime()) ? null : date;
}

export function when(value) {
  const date = toDate(value);
  if (!date) return '–';
  return date.toLocaleString('en', { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', hour12: false });
}

/** Heading of the conversation list for a time. */
export function dayGroup(time, now = Date.now()) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (time >= midnight) return 'Today';
  if (time >= midnight - 86400e3) return 'Yesterday';
  if (time >= midnight - 7 * 86400e3) return 'Last seven days';
  return 'Older';
}
