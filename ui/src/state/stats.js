// The live figures of the dashboard: /v1/stats/stream and a history of the last five minutes for the plots.
import { createStore } from '../lib/store.js';
import { getJson, stream } from '../lib/api.js';

const KEEP = 300;  // one a second

export const stats = createStore({ now: null, history: [], state: 'connecting' });
export const requests = createStore([]);
export const pages = createStore(null);

const share = (part, whole) => (whole > 0 ? part / whole : null);
// Totals become shares of what came since the event before; null (a gap in the plot) where nothing came.
function point(now, before) {
  const since = (get) => (before ? Math.max(0, get(now) - get(before)) : 0);
  const { ttft_ms: ttft, inter_token_ms: gap } = now.latency;
  return {
    time: now.time_ms / 1000,
    generated: now.rates.generated_per_second,
    prompt: now.rates.prompt_per_second,
    ttft: [ttft.p50, ttft.p95, ttft.p99],
    gap: [gap.p50, gap.p95, gap.p99],
    running: now.requests.running,
    waiting: now.requests.waiting,
    kv: share(now.kv.total - now.kv.free, now.kv.total),
    cached: share(since((e) => e.tokens.cached_total), since((e) => e.tokens.prompt_total)),
    accepted: share(since((e) => e.speculation?.accepted ?? 0), since((e) => e.speculation?.drafted ?? 0)),
    memory: now.memory.rss_bytes,
  };
}

// Nobody looked for a while: the line is broken, not drawn across.
const GAP = { ttft: [], gap: [] };

function take(now) {
  stats.set(({ now: before, history }) => {
    const away = before && now.time_ms - before.time_ms > 5000 ? [{ ...GAP, time: before.time_ms / 1000 + 1 }] : [];
    return { now, state: 'live', history: [...history, ...away, point(now, before)].slice(-KEEP) };
  });
}

async function poll(options) {
  const [list, map] = await Promise.all([getJson('/v1/requests', options), getJson('/v1/kv/pages', options)]);
  requests.set(list.data);
  pages.set(map);
}

/** Follows the figures until the returned function is called. Reconnects by itself. */
export function follow() {
  const controller = new AbortController();
  const { signal } = controller;
  const options = { signal, background: true };
  (async () => {
    while (!signal.aborted) {
      try {
        for await (const now of stream('/v1/stats/stream', options)) {
          take(now);
          poll(options).catch(() => {});  // the next event asks again
        }
      } catch (error) {
        if (signal.aborted) return;
        stats.patch({ state: 'lost', message: error.message });
      }
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  })();
  return () => controller.abort();
}
