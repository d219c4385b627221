// The calls that the RuVectorProvider of @claude-flow/providers makes, by plain fetch.
// usage: node sdk_providers.mjs URL MODEL
import assert from "node:assert/strict";
import { check, finish, sameText, Server } from "./check.mjs";

const [url, model] = process.argv.slice(2);
const server = new Server(url);
const ok = async (path, body) => {
  const { status, json } = await server.post(path, body);
  assert.equal(status, 200, `${path}: ${JSON.stringify(json)}`);
  return json;
};
const refused = async (path, body, status, pattern) => {
  const answer = await server.post(path, body);
  assert.equal(answer.status, status, path);
  // Their client calls string methods on it.
  assert.equal(typeof answer.json.error, "string");
  assert.match(answer.json.error, pattern);
};

await check("providers: health holds booleans", async () => {
  const health = await server.get("/health");
  assert.equal(health.status, "ok");
  assert.equal(health.sona, true);
  assert.equal(health.hnsw, true);
});

await check("providers: query", async () => {
  const order = { query: "Tell me a story.", session_id: "s1", max_tokens: 24, seed: 4, logit_bias: await server.endless() };
  const answer = await ok("/query", order);
  assert.equal(answer.model, model);
  assert.ok(answer.content.length > 20);
  assert.equal(answer.text, answer.content);
  assert.equal(answer.usage.completion_tokens, 24);
  assert.ok(answer.confidence > 0 && answer.confidence <= 1);
  assert.ok(answer.latency_ms > 0);
  assert.equal(answer.done, false, "the length limit");
  assert.equal(answer.sona_metrics.adaptation_applied, false);
  // The confidence is exp of the mean log-probability.
  const chat = await ok("/v1/chat/completions", {
    messages: [{ role: "user", content: order.query }], max_tokens: 24, seed: 4, logit_bias: order.logit_bias, logprobs: true,
  });
  sameText(chat.choices[0].message.content, answer.content);
  const values = chat.choices[0].logprobs.content.map((one) => one.logprob);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  assert.ok(Math.abs(Math.exp(mean) - answer.confidence) < 1e-4);
  const ends = Object.fromEntries(Object.keys(order.logit_bias).map((id) => [id, 100]));
  assert.equal((await ok("/query", { ...order, logit_bias: ends })).done, true);
});

await check("providers: a query that begins with a system text", async () => {
  const order = { max_tokens: 16, seed: 4, logit_bias: await server.endless() };
  const told = await ok("/query", { ...order, query: "[System]: You are a crow.\n\nWho are you?" });
  const chat = await ok("/v1/chat/completions", {
    ...order, messages: [{ role: "system", content: "You are a crow." }, { role: "user", content: "Who are you?" }],
  });
  sameText(told.content, chat.choices[0].message.content);
});

await check("providers: a stream with sona_options", async () => {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    body: JSON.stringify({
      messages: [{ role: "user", content: "Tell me a story." }], stream: true, max_tokens: 20, seed: 4,
      sona_options: { enabled: true, learning_rate: 0.1, adapt_on_response: true },
    }),
  });
  assert.match(response.headers.get("content-type"), /^text\/event-stream/);
  const events = (await response.text()).split("\n\n").filter(Boolean).map((event) => event.replace(/^data: /, ""));
  assert.equal(events.pop(), "[DONE]");
  const chunks = events.map((event) => JSON.parse(event));
  const done = chunks.filter((chunk) => chunk.done === true);
  assert.equal(done.length, 1);
  assert.ok(done[0].usage.completion_tokens > 0);
  const whole = await ok("/v1/chat/completions", {
    messages: [{ role: "user", content: "Tell me a story." }], max_tokens: 20, seed: 4,
  });
  sameText(chunks.map((chunk) => chunk.content ?? "").join(""), whole.choices[0].message.content);
});

await check("providers: sona metrics, learn, search, stats and feedback", async () => {
  const kept = await ok("/feedback", { query: "How do I sort a list?", response: "Call sort().", quality: 0.9 });
  assert.equal(kept.durable, true);
  const metrics = await server.get("/v1/sona/metrics");
  assert.equal(typeof metrics.enabled, "boolean");
  assert.equal(metrics.adaptationsApplied, 0);
  assert.ok(metrics.patternsLearned >= 0);
  const hits = await ok("/v1/hnsw/search", { query: "How do I sort a list?", limit: 3 });
  assert.ok(Array.isArray(hits) && hits.length <= 3);
  for (const hit of hits) {
    assert.equal(typeof hit.id, "string");
    assert.equal(typeof hit.content, "string");
    assert.ok(hit.similarity <= 1.0001);
  }
  const stats = await server.get("/stats");
  for (const name of ["total_queries", "cache_hits", "avg_latency_ms", "memory_nodes", "router_updates"])
    assert.equal(typeof stats[name], "number", name);
  assert.ok(stats.total_queries > 0);
  const learn = await server.post("/v1/sona/learn", { conversation_id: "c1" });
  // Adapters learn only where the operator said so.
  assert.ok([202, 400].includes(learn.status));
  if (learn.status === 400) assert.equal(learn.json.error.code, "learning.disabled");
});

await check("providers: errors are texts", async () => {
  await refused("/query", {}, 400, /query/);
  await refused("/query", { query: "x", temperature: "hot" }, 400, /temperature/);
  await refused("/feedback", { query: "x", response: "y", quality: 2 }, 400, /quality/);
  await refused("/feedback", { query: "x", response: "y" }, 400, /quality/);
});
finish();
