// The npm package @anthropic-ai/sdk, unchanged, against a server on the nano model.
// usage: node sdk_anthropic.mjs URL MODEL   |   node sdk_anthropic.mjs URL MODEL KEY (a keyed server)
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { z } from "zod";
import { check, finish, rejection, sameText, Server } from "./check.mjs";

const [url, model, key] = process.argv.slice(2);
const server = new Server(url, key);
const client = new Anthropic({ baseURL: url, apiKey: key ?? "local", maxRetries: 0 });
const messages = [{ role: "user", content: "Tell me a story about a fox and a crow." }];
// seed and logit_bias are the server's own: the SDK hands on what it does not know. Only max_tokens ends these.
const drawn = { model, messages, max_tokens: 40, seed: 7, logit_bias: key ? {} : await server.endless() };
const textOf = (message) => message.content.filter((block) => block.type === "text").map((block) => block.text).join("");

async function keyed() {
  await check("anthropic: the right key, as x-api-key and as a bearer", async () => {
    assert.ok(textOf(await client.messages.create(drawn)));
    const bearer = new Anthropic({ baseURL: url, apiKey: null, authToken: key, maxRetries: 0 });
    assert.ok(textOf(await bearer.messages.create(drawn)));
  });
  await check("anthropic: a wrong key and none are AuthenticationErrors", async () => {
    const wrong = new Anthropic({ baseURL: url, apiKey: "not-the-key", maxRetries: 0 });
    const none = new Anthropic({ baseURL: url, apiKey: "x", maxRetries: 0, defaultHeaders: { "x-api-key": null } });
    for (const other of [wrong, none]) {
      for (const call of [() => other.messages.create(drawn), () => other.messages.create({ ...drawn, stream: true }),
        () => other.messages.countTokens({ model, messages })]) {
        const error = await rejection(call());
        assert.ok(error instanceof Anthropic.AuthenticationError, String(error));
        assert.equal(error.status, 401);
        assert.equal(error.error.type, "error");
        assert.equal(error.error.error.type, "authentication_error");
      }
    }
  });
}

async function answers() {
  let whole;
  await check("anthropic: a whole message", async () => {
    const message = await client.messages.create(drawn);
    assert.match(message.id, /^msg_/);
    assert.equal(message.type, "message");
    assert.equal(message.role, "assistant");
    assert.equal(message.model, model);
    assert.deepEqual(message.content.map((block) => block.type), ["text"]);
    assert.equal(message.stop_reason, "max_tokens");
    assert.equal(message.stop_sequence, null);
    assert.equal(message.usage.output_tokens, 40);
    whole = textOf(message);
    const again = await client.messages.create(drawn);
    sameText(textOf(again), whole);
    // Input tokens are those that the cache did not hold: together they are the prompt.
    const n = (await client.messages.countTokens({ model, messages })).input_tokens;
    for (const { usage } of [message, again]) assert.equal(usage.input_tokens + usage.cache_read_input_tokens, n);
    assert.notEqual(textOf(await client.messages.create({ ...drawn, seed: 8 })), whole);
  });
  await check("anthropic: a stream of events", async () => {
    const events = [];
    for await (const event of await client.messages.create({ ...drawn, stream: true })) events.push(event);
    const kinds = events.map((event) => event.type).filter((kind, i, all) => kind !== "ping" && kind !== all[i - 1]);
    assert.deepEqual(kinds, ["message_start", "content_block_start", "content_block_delta", "content_block_stop",
      "message_delta", "message_stop"]);
    sameText(events.map((event) => event.delta?.text ?? "").join(""), whole);
    const delta = events.find((event) => event.type === "message_delta");
    assert.equal(delta.delta.stop_reason, "max_tokens");
    assert.equal(delta.usage.output_tokens, 40);
    assert.ok(events.filter((event) => event.type === "content_block_delta").length > 10);
  });
  await check("anthropic: messages.stream, its events and finalMessage", async () => {
    const stream = client.messages.stream(drawn);
    let seen = "";
    stream.on("text", (delta, snapshot) => {
      seen += delta;
      assert.equal(snapshot, seen);
    });
    const final = await stream.finalMessage();
    sameText(textOf(final), whole);
    sameText(seen, whole);
    sameText(await stream.finalText(), whole);
    assert.equal(final.stop_reason, "max_tokens");
    assert.equal(final.usage.output_tokens, 40);
    assert.ok(final.usage.input_tokens + final.usage.cache_read_input_tokens > 0);
  });
  await check("anthropic: stop sequences", async () => {
    const word = whole.trim().split(/\s+/)[4];
    const cut = whole.slice(0, whole.indexOf(word));
    const message = await client.messages.create({ ...drawn, stop_sequences: [word] });
    sameText(textOf(message), cut);
    assert.equal(message.stop_reason, "stop_sequence");
    assert.equal(message.stop_sequence, word);
    const final = await client.messages.stream({ ...drawn, stop_sequences: ["never said", word] }).finalMessage();
    sameText(textOf(final), cut);
    assert.equal(final.stop_reason, "stop_sequence");
    assert.equal(final.stop_sequence, word);
  });
  await check("anthropic: an answer that ends by itself is an end_turn", async () => {
    const ends = Object.fromEntries(Object.keys(drawn.logit_bias).map((id) => [id, 100]));
    const message = await client.messages.create({ ...drawn, logit_bias: ends, stop_sequences: ["x"] });
    assert.equal(message.stop_reason, "end_turn");
    assert.equal(message.stop_sequence, null);
    assert.deepEqual(message.content, [{ type: "text", text: "" }]);
  });
  await check("anthropic: system as text and as blocks, without its billing line", async () => {
    const plain = await client.messages.create({ ...drawn, system: "You are a crow." });
    const blocks = await client.messages.create({
      ...drawn,
      system: [{ type: "text", text: "x-anthropic-billing-header: cc_version=1" },
        { type: "text", text: "You are a crow.", cache_control: { type: "ephemeral" } }],
    });
    sameText(textOf(blocks), textOf(plain));
    assert.notEqual(textOf(plain), whole);
  });
  await check("anthropic: count_tokens is what a message uses", async () => {
    const order = { model, system: "You are a crow.", messages };
    const { input_tokens: n } = await client.messages.countTokens(order);
    const { usage } = await client.messages.create({ ...drawn, ...order });
    assert.equal(usage.input_tokens + usage.cache_read_input_tokens, n);
    assert.ok(n > (await client.messages.countTokens({ model, messages })).input_tokens);
  });
  await check("anthropic: models.list", async () => {
    const ids = [];
    for await (const one of client.models.list()) ids.push(one.id);
    assert.ok(ids.includes(model));
  });
}

const Weather = z.strictObject({ place: z.enum(["Aachen", "Berlin"]), days: z.number().int().min(1).max(7) });
const tool = { name: "get_weather", description: "The weather of a place", input_schema: z.toJSONSchema(Weather) };
const asked = { model, seed: 3, max_tokens: 200, messages: [{ role: "user", content: "What is the weather?" }] };

async function tools() {
  let call;
  await check("anthropic: tool_choice any gives an input of the schema", async () => {
    const message = await client.messages.create({
      ...asked, tools: [tool], tool_choice: { type: "any", disable_parallel_tool_use: true },
    });
    assert.equal(message.stop_reason, "tool_use");
    assert.equal(message.content.length, 1);
    [call] = message.content;
    assert.equal(call.type, "tool_use");
    assert.match(call.id, /^toolu_/);
    assert.equal(call.name, "get_weather");
    Weather.parse(call.input);
  });
  await check("anthropic: a named tool out of two", async () => {
    const other = { name: "tell_time", input_schema: { type: "object", properties: {}, additionalProperties: false } };
    for (const name of ["tell_time", "get_weather"]) {
      const message = await client.messages.create({ ...asked, tools: [other, tool], tool_choice: { type: "tool", name } });
      assert.equal(message.content[0].name, name);
    }
  });
  await check("anthropic: a streamed call, put together by the SDK", async () => {
    const stream = client.messages.stream({
      ...asked, tools: [tool], tool_choice: { type: "any", disable_parallel_tool_use: true },
    });
    let last;
    stream.on("inputJson", (_, snapshot) => { last = snapshot; });
    const final = await stream.finalMessage();
    assert.equal(final.stop_reason, "tool_use");
    assert.deepEqual(final.content[0].input, call.input);
    assert.deepEqual(last, call.input);
  });
  await check("anthropic: a tool's result goes back", async () => {
    const conversation = [...asked.messages, { role: "assistant", content: [call] },
      { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: [{ type: "text", text: "rain" }] },
        { type: "text", text: "And tomorrow?" }] }];
    const order = { ...asked, tools: [tool], tool_choice: { type: "none" }, messages: conversation };
    const message = await client.messages.create({ ...order, max_tokens: 8 });
    assert.equal(message.content[0].type, "text");
    const without = await client.messages.countTokens({ model, messages: [conversation[0]] });
    const { input_tokens: n } = await client.messages.countTokens({ model, messages: conversation });
    assert.ok(n > without.input_tokens + 4);
  });
}

async function errors() {
  const refused = async (order, kind, status, type, pattern) => {
    const error = await rejection(client.messages.create({ ...drawn, ...order }));
    assert.ok(error instanceof kind, String(error));
    assert.equal(error.status, status);
    assert.equal(error.error.type, "error");
    assert.equal(error.error.error.type, type);
    assert.match(error.error.error.message, pattern);
  };
  await check("anthropic: errors name the field", async () => {
    const bad = [Anthropic.BadRequestError, 400, "invalid_request_error"];
    await refused({ max_tokens: undefined }, ...bad, /max_tokens/);
    await refused({ temperature: 3 }, ...bad, /temperature/);
    await refused({ messages: [] }, ...bad, /messages/);
    await refused({ messages: [{ role: "system", content: "x" }] }, ...bad, /messages\[0\]\.role/);
    await refused({ messages: [{ role: "user", content: [{ type: "image", source: {} }] }] }, ...bad, /image/);
    await refused({ tools: [{ name: "x" }] }, ...bad, /tools\[0\]/);
    await refused({ tools: [tool], tool_choice: { type: "tool", name: "other" } }, ...bad, /other/);
    await refused({ tools: [tool], tool_choice: { type: "king" } }, ...bad, /tool_choice/);
    await refused({ messages: [{ role: "user", content: "fox ".repeat(4000) }] }, ...bad, /./);
  });
  await check("anthropic: an unknown model is a NotFoundError", async () => {
    await refused({ model: "claude-0" }, Anthropic.NotFoundError, 404, "not_found_error", /claude-0/);
  });
}

async function aborts() {
  const order = { ...drawn, max_tokens: 2000 };
  await check("anthropic: abort in the middle of streams frees everything", async () => {
    await server.cancels(4, async () => {
      const abort = new AbortController();
      const streams = [1, 2, 3].map((seed) => client.messages.stream({ ...order, seed }, { signal: abort.signal }));
      const ended = streams.map((stream) => rejection(stream.done()));
      let chunks = 0;
      for await (const event of await client.messages.create({ ...order, stream: true }, { signal: abort.signal })) {
        if (event.type === "content_block_delta") chunks += 1;
        if (chunks === 10) break;
      }
      abort.abort();
      for (const error of await Promise.all(ended)) assert.ok(error instanceof Anthropic.APIUserAbortError, String(error));
    });
  });
}

if (key) {
  await keyed();
} else {
  await answers();
  await tools();
  await errors();
  await aborts();
}
finish();
