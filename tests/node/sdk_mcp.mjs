// The npm package @modelcontextprotocol/sdk, unchanged: over HTTP, over `ruvltra mcp`, and over `ruvltra mcp`
// that hands on to a server.
// usage: node sdk_mcp.mjs http URL [KEY]   |   node sdk_mcp.mjs stdio PROGRAM MODEL_FILE DATA_DIR
//      | node sdk_mcp.mjs handing-on PROGRAM URL
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { check, finish, rejection, sameText, Server } from "./check.mjs";

const [kind, target, third, data] = process.argv.slice(2);
const url = { http: target, stdio: undefined, "handing-on": third }[kind];
const key = kind === "http" ? third : undefined;
const label = `mcp ${kind}`;
const server = url ? new Server(url, key) : null;

function transport(headers = key ? { Authorization: `Bearer ${key}` } : {}) {
  if (kind === "http") return new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit: { headers } });
  const more = url ? ["--url", url] : ["-m", third, "--data-dir", data];
  return new StdioClientTransport({ command: target, args: ["mcp", ...more], env: process.env, stderr: "ignore" });
}

const connection = transport();
const client = new Client({ name: "test", version: "1" });
const call = async (name, args = {}, options = undefined) => {
  const result = await client.callTool({ name, arguments: args }, undefined, options);
  assert.equal(result.content.length, 1);
  assert.equal(result.content[0].type, "text");
  if (!result.isError) assert.deepEqual(JSON.parse(result.content[0].text), result.structuredContent);
  return result;
};
const ask = async (name, args) => {
  const result = await call(name, args);
  assert.ok(!result.isError, `${name}: ${result.content[0].text}`);
  return result.structuredContent;
};

async function basics() {
  await check(`${label}: initialize`, async () => {
    await client.connect(connection);
    assert.equal(client.getServerVersion().name, "ruvltra");
    assert.ok(client.getServerCapabilities().tools);
    assert.ok(client.getInstructions());
    await client.ping();
  });
  await check(`${label}: the tools, each with a schema of its arguments`, async () => {
    const { tools } = await client.listTools();
    assert.deepEqual(tools.map((tool) => tool.name).sort(), ["adapter_list", "adapter_rollback", "chat", "classify_task",
      "embed", "pattern_search", "pattern_store", "route", "route_feedback", "sona_status", "trajectory_end",
      "trajectory_start", "trajectory_step"]);
    for (const tool of tools) {
      assert.equal(tool.inputSchema.type, "object");
      assert.ok(tool.description.length > 10);
    }
  });
}

async function learning() {
  await check(`${label}: route, feedback and classify_task`, async () => {
    const task = "Find the SQL injection in the login form and fix it";
    const decision = await ask("route", { task, k: 3 });
    assert.equal(decision.task, task);
    assert.ok(decision.primaryAgent.type);
    assert.ok(decision.primaryAgent.confidence > 0 && decision.primaryAgent.confidence <= 1);
    assert.ok(["hnsw", "prior", "lexical"].includes(decision.routing.method), decision.routing.method);
    const feedback = { decision_id: decision.decision_id, agent: decision.primaryAgent.type, success: true, quality: 0.9 };
    assert.equal((await ask("route_feedback", feedback)).ok, true);
    const none = await call("route_feedback", { ...feedback, decision_id: "0".repeat(32) });
    assert.equal(none.isError, true);
    const sort = await ask("classify_task", { task });
    assert.ok(["haiku", "sonnet", "opus"].includes(sort.tier));
    assert.ok(["low", "medium", "high"].includes(sort.complexity_level));
  });
  await check(`${label}: a trajectory from start to end`, async () => {
    const before = (await ask("sona_status")).trajectories;
    const begun = await ask("trajectory_start", { task: "Make the tests quick", agent: "tester" });
    assert.equal(begun.durable, false);
    const step = await ask("trajectory_step", { trajectoryId: begun.trajectoryId, action: "measure", result: "9 s", quality: 0.8 });
    assert.equal(step.trajectoryId, begun.trajectoryId);
    const ended = await ask("trajectory_end", { trajectoryId: begun.trajectoryId, success: true, feedback: "Measure first" });
    assert.equal(ended.durable, true);
    assert.ok((await ask("sona_status")).trajectories > before);
    assert.equal((await call("trajectory_end", { trajectoryId: begun.trajectoryId })).isError, true);
  });
  await check(`${label}: a pattern is found again`, async () => {
    const pattern = `Bump the cache key of ${label} ${process.pid} whenever the lock file changes`;
    const kept = await ask("pattern_store", { pattern, type: "strategy", confidence: 0.9 });
    assert.equal(kept.durable, true);
    const { patterns } = await ask("pattern_search", { query: pattern, topK: 3, minConfidence: 0.5 });
    const found = patterns.find((one) => one.id === kept.id);
    assert.equal(found.pattern, pattern);
    assert.ok(found.similarity > 0.95, `similarity ${found.similarity}`);
    assert.ok(patterns.length <= 3);
  });
  await check(`${label}: embed, sona_status, adapter_list and adapter_rollback`, async () => {
    const { embedding, dimensions } = await ask("embed", { text: "a fox" });
    assert.equal(embedding.length, dimensions);
    assert.ok(Math.abs(Math.hypot(...embedding) - 1) < 1e-3);
    const status = await ask("sona_status");
    assert.ok(status.bank.rows >= 1);
    const list = await ask("adapter_list");
    assert.equal(list.live.generation, 0);
    const conflict = await call("adapter_rollback", { to_generation: 0, expected_generation: 99 });
    assert.equal(conflict.isError, true);
  });
}

async function chat() {
  await check(`${label}: chat, the same text for the same seed`, async () => {
    const order = { prompt: "Tell me a story about a fox.", max_tokens: 24, seed: 5 };
    const answer = await ask("chat", order);
    assert.ok(answer.completion_tokens <= 24);
    assert.equal(answer.seed, 5);
    sameText((await ask("chat", order)).text, answer.text);
    const { prompt, ...rest } = order;
    sameText((await ask("chat", { ...rest, messages: [{ role: "user", content: prompt }] })).text, answer.text);
    if (server) {
      const { json } = await server.post("/v1/chat/completions", { ...rest, messages: [{ role: "user", content: prompt }] });
      sameText(json.choices[0].message.content, answer.text);
    }
  });
  await check(`${label}: a tool's own failure is a result, a wrong call is an error`, async () => {
    const failure = await call("chat", { prompt: "x", temperature: 9 });
    assert.equal(failure.isError, true);
    assert.match(failure.content[0].text, /temperature/);
    assert.equal((await call("chat", {})).isError, true);
    assert.equal((await call("route", { task: "" })).isError, true);
    assert.equal((await rejection(client.callTool({ name: "no_such_tool", arguments: {} }))).code, -32602);
    assert.equal((await rejection(client.request({ method: "resources/list" }, { parse: (x) => x }))).code, -32601);
  });
  await check(`${label}: several calls at once`, async () => {
    const answers = await Promise.all([1, 2, 3, 4, 5].map((seed) => ask("chat", { prompt: "A crow", max_tokens: 16, seed })));
    assert.deepEqual(answers.map((answer) => answer.seed), [1, 2, 3, 4, 5]);
    assert.ok(new Set(answers.map((answer) => answer.text)).size > 1);
  });
  await check(`${label}: a call that is cancelled ends`, async () => {
    const begin = async () => {
      // Long ones; more than the server works on at once, so that some wait.
      const aborts = Array.from({ length: 12 }, () => new AbortController());
      const calls = aborts.map((abort, i) =>
        call("chat", { prompt: `A tale of ${i} kings and their daughters`, seed: i, max_tokens: 2000 }, { signal: abort.signal }));
      const ended = Promise.allSettled(calls);
      if (server) await server.isRunning(4);
      else await client.ping();
      for (const abort of aborts) abort.abort(new Error("enough"));
      const cancelled = (await ended).filter((one) => one.status === "rejected");
      assert.ok(cancelled.length > 0, "all were done before");
      for (const one of cancelled) assert.match(String(one.reason), /enough/);
      // What is asked now does not wait behind them.
      await ask("chat", { prompt: "Now", max_tokens: 4 });
    };
    if (!server) return begin();
    const before = (await server.stats()).requests;
    await begin();
    await server.becomesIdle();
    const end = Date.now() + 1000;
    while ((await server.stats()).requests.cancelled === before.cancelled) assert.ok(Date.now() < end, "none was cancelled");
  });
}

if (kind === "http" && key) {
  await check(`${label}: a key is needed`, async () => {
    for (const headers of [{}, { Authorization: "Bearer not-the-key" }]) {
      const other = new Client({ name: "test", version: "1" });
      const error = await rejection(other.connect(transport(headers)));
      assert.match(`${error.code} ${error}`, /401|Unauthorized/i);
    }
    await client.connect(connection);
    assert.ok((await client.listTools()).tools.length > 0);
  });
} else {
  await basics();
  await learning();
  await chat();
}
await check(`${label}: close`, async () => {
  await client.close();
});
finish();
