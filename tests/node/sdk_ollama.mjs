// The npm package ollama, unchanged, against a server on the nano model.
// usage: node sdk_ollama.mjs URL MODEL   |   node sdk_ollama.mjs URL MODEL KEY (a keyed server)
import assert from "node:assert/strict";
import { Ollama } from "ollama";
import { z } from "zod";
import { check, finish, rejection, sameText, Server } from "./check.mjs";

const [url, model, key] = process.argv.slice(2);
const server = new Server(url, key);
const headers = key ? { Authorization: `Bearer ${key}` } : {};
const client = new Ollama({ host: url, headers });
const messages = [{ role: "user", content: "Tell me a story about a fox and a crow." }];
// logit_bias is the server's own: the SDK hands on what it does not know. Only num_predict ends these.
const drawn = { model, logit_bias: key ? {} : await server.endless(), options: { seed: 7, num_predict: 40 } };

async function collect(stream) {
  const all = [];
  for await (const one of stream) all.push(one);
  return all;
}

async function keyed() {
  await check("ollama: the right key", async () => {
    assert.ok((await client.chat({ ...drawn, messages })).message.content);
    assert.equal((await client.list()).models.length, 1);
  });
  await check("ollama: a wrong key and none are 401 with a text", async () => {
    for (const other of [new Ollama({ host: url }), new Ollama({ host: url, headers: { Authorization: "Bearer x" } })]) {
      for (const call of [() => other.list(), () => other.chat({ ...drawn, messages }), () => other.embed({ model, input: "x" }),
        () => other.generate({ ...drawn, prompt: "x", stream: true })]) {
        const error = await rejection(call());
        assert.equal(error.name, "ResponseError");
        assert.equal(error.status_code, 401);
        assert.equal(typeof error.error, "string");
        assert.match(error.error, /key/);
      }
    }
  });
}

async function about() {
  await check("ollama: version, list, ps and show", async () => {
    assert.match((await client.version()).version, /^\d+\.\d+/);
    const [listed] = (await client.list()).models;
    assert.equal(listed.name, `${model}:latest`);
    assert.equal(listed.details.family, "qwen2");
    assert.ok(listed.size > 1e6);
    assert.match(listed.digest, /^[0-9a-f]{64}$/);
    const [running] = (await client.ps()).models;
    assert.equal(running.name, listed.name);
    assert.ok(!Number.isNaN(Date.parse(running.expires_at)));
    const shown = await client.show({ model });
    assert.equal(shown.model_info["general.architecture"], "qwen2");
    assert.ok(shown.model_info["qwen2.context_length"] >= 512);
    assert.ok(shown.capabilities.includes("completion"));
  });
}

async function chat() {
  let whole;
  await check("ollama: a whole answer, the same for the same seed", async () => {
    const answer = await client.chat({ ...drawn, messages });
    assert.equal(answer.model, model);
    assert.equal(answer.message.role, "assistant");
    assert.equal(answer.done, true);
    assert.equal(answer.done_reason, "length");
    assert.equal(answer.eval_count, 40);
    assert.ok(answer.prompt_eval_count > 5);
    assert.ok(answer.total_duration > 0);
    assert.ok(answer.eval_duration > 0 && answer.eval_duration <= answer.total_duration);
    assert.ok(!Number.isNaN(Date.parse(answer.created_at)));
    whole = answer.message.content;
    sameText((await client.chat({ ...drawn, messages })).message.content, whole);
    sameText((await client.chat({ ...drawn, model: `${model}:latest`, messages })).message.content, whole);
    const other = await client.chat({ ...drawn, messages, options: { ...drawn.options, seed: 8 } });
    assert.notEqual(other.message.content, whole);
  });
  await check("ollama: a stream is the whole answer in lines", async () => {
    const lines = await collect(await client.chat({ ...drawn, messages, stream: true }));
    sameText(lines.map((line) => line.message.content).join(""), whole);
    assert.ok(lines.length > 20);
    assert.ok(lines.slice(0, -1).every((line) => line.done === false));
    const last = lines.at(-1);
    assert.equal(last.done, true);
    assert.equal(last.done_reason, "length");
    assert.equal(last.eval_count, 40);
  });
  await check("ollama: stop strings", async () => {
    const word = whole.trim().split(/\s+/)[4];
    const options = { ...drawn.options, stop: [word] };
    const cut = whole.slice(0, whole.indexOf(word));
    const answer = await client.chat({ ...drawn, messages, options });
    sameText(answer.message.content, cut);
    assert.equal(answer.done_reason, "stop");
    const lines = await collect(await client.chat({ ...drawn, messages, options, stream: true }));
    sameText(lines.map((line) => line.message.content).join(""), cut);
  });
  await check("ollama: generate, whole, streamed, raw and with a system text", async () => {
    const answer = await client.generate({ ...drawn, prompt: messages[0].content });
    sameText(answer.response, whole);
    const lines = await collect(await client.generate({ ...drawn, prompt: messages[0].content, stream: true }));
    sameText(lines.map((line) => line.response).join(""), whole);
    const told = await client.generate({ ...drawn, prompt: messages[0].content, system: "You are a crow." });
    const same = await client.chat({ ...drawn, messages: [{ role: "system", content: "You are a crow." }, ...messages] });
    sameText(told.response, same.message.content);
    const raw = await client.generate({ ...drawn, prompt: "Once upon a time", raw: true });
    const { json } = await server.post("/v1/completions", {
      prompt: "Once upon a time", seed: 7, max_tokens: 40, logit_bias: drawn.logit_bias,
    });
    sameText(raw.response, json.choices[0].text);
  });
  await check("ollama: nothing asked loads the model", async () => {
    const answer = await client.generate({ model, prompt: "" });
    assert.equal(answer.done_reason, "load");
    assert.equal((await client.chat({ model, messages: [] })).done_reason, "load");
  });
  await check("ollama: logprobs, whole and streamed", async () => {
    const answer = await client.chat({ ...drawn, messages, logprobs: true, top_logprobs: 2 });
    sameText(answer.message.content, whole);
    assert.equal(answer.logprobs.map((one) => one.token).join(""), whole);
    for (const one of answer.logprobs) {
      assert.ok(one.logprob <= 0);
      assert.equal(one.top_logprobs.length, 2);
      assert.ok(one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob);
    }
    const lines = await collect(await client.chat({ ...drawn, messages, logprobs: true, top_logprobs: 2, stream: true }));
    assert.deepEqual(lines.flatMap((line) => line.logprobs ?? []), answer.logprobs);
    assert.equal((await client.chat({ ...drawn, messages })).logprobs, undefined);
  });
}

const Animal = z.strictObject({ kind: z.enum(["fox", "crow"]), legs: z.number().int().min(2).max(4) });

async function forms() {
  const asked = { model, options: { seed: 3, num_predict: 200 }, messages: [{ role: "user", content: "Which animal?" }] };
  await check("ollama: format with a schema, whole and streamed", async () => {
    const answer = await client.chat({ ...asked, format: z.toJSONSchema(Animal) });
    assert.equal(answer.done_reason, "stop");
    Animal.parse(JSON.parse(answer.message.content));
    const lines = await collect(await client.generate({
      model, options: asked.options, prompt: "Which animal?", format: z.toJSONSchema(Animal), stream: true,
    }));
    Animal.parse(JSON.parse(lines.map((line) => line.response).join("")));
  });
  await check("ollama: format json", async () => {
    const answer = await client.chat({ ...asked, format: "json" });
    assert.ok(answer.message.content.startsWith("{"));
    if (answer.done_reason === "stop") JSON.parse(answer.message.content);
  });
  await check("ollama: tools and their results are taken", async () => {
    const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object", properties: {} } } }];
    const answer = await client.chat({
      ...asked, tools, options: { seed: 3, num_predict: 8 },
      messages: [...asked.messages,
        { role: "assistant", content: "", tool_calls: [{ function: { name: "get_weather", arguments: { place: "Aachen" } } }] },
        { role: "tool", tool_name: "get_weather", content: "rain" }],
    });
    assert.equal(answer.done, true);
  });
}

async function embeddings() {
  await check("ollama: embed and the older embeddings", async () => {
    const { embeddings: two, prompt_eval_count: n } = await client.embed({ model, input: ["a fox", "a crow"] });
    assert.equal(two.length, 2);
    assert.ok(n > 2);
    for (const one of two) assert.ok(Math.abs(Math.hypot(...one) - 1) < 1e-5);
    assert.notDeepEqual(two[0], two[1]);
    assert.deepEqual((await client.embeddings({ model, prompt: "a fox" })).embedding, two[0]);
    const [short] = (await client.embed({ model, input: "a fox", dimensions: 16 })).embeddings;
    const norm = Math.hypot(...two[0].slice(0, 16));
    assert.equal(short.length, 16);
    short.forEach((value, i) => assert.ok(Math.abs(value - two[0][i] / norm) < 1e-5));
  });
}

async function errors() {
  await check("ollama: errors are a status and a text", async () => {
    const cases = [
      [() => client.chat({ ...drawn, messages, options: { temperature: 3 } }), 400, /temperature/],
      [() => client.chat({ ...drawn, messages: "x" }), 400, /messages/],
      [() => client.chat({ ...drawn, messages, format: "xml" }), 400, /format/],
      [() => client.chat({ ...drawn, messages: [{ role: "user", content: "x", images: ["aGVsbG8="] }] }), 400, /images/],
      [() => client.chat({ ...drawn, messages, options: [1] }), 400, /options/],
      [() => client.generate({ ...drawn, prompt: "fox ".repeat(4000), stream: true }), 400, /./],
      [() => client.chat({ ...drawn, model: "llama0", messages }), 404, /llama0/],
      [() => client.embed({ model: "llama0", input: "x" }), 404, /llama0/],
      [() => client.embeddings({ model: "llama0", prompt: "x" }), 404, /llama0/],
      [() => client.show({ model: "llama0" }), 404, /llama0/],
      [() => client.copy({ source: model, destination: "x" }), 404, /route/],
    ];
    for (const [call, status, pattern] of cases) {
      const error = await rejection(call());
      assert.equal(error.name, "ResponseError", String(error));
      assert.equal(error.status_code, status, call.toString());
      assert.match(error.error, pattern);
    }
  });
}

async function aborts() {
  const options = { num_predict: 2000 };
  await check("ollama: abort of one stream, and of all the client's", async () => {
    await server.cancels(4, async () => {
      const streams = [];
      for (const seed of [1, 2, 3, 4])
        streams.push(await client.chat({ ...drawn, messages, options: { ...options, seed }, stream: true }));
      let lines = 0;
      const first = rejection((async () => {
        for await (const _ of streams[0]) if (++lines === 10) streams[0].abort();
      })());
      assert.equal((await first).name, "AbortError");
      client.abort();
      for (const stream of streams.slice(1)) assert.equal((await rejection(collect(stream))).name, "AbortError");
    });
  });
}

if (key) {
  await keyed();
} else {
  await about();
  await chat();
  await forms();
  await embeddings();
  await errors();
  await aborts();
}
finish();
