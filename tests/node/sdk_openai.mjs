// The npm package openai, unchanged, against a server on the nano model.
// usage: node sdk_openai.mjs URL MODEL   |   node sdk_openai.mjs URL MODEL KEY (the few checks of a keyed server)
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { check, finish, rejection, sameText, Server } from "./check.mjs";

const [url, model, key] = process.argv.slice(2);
const server = new Server(url, key);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key ?? "local", maxRetries: 0 });
const messages = [{ role: "user", content: "Tell me a story about a fox and a crow." }];
// Only max_tokens ends these.
const drawn = { model, messages, seed: 7, max_tokens: 40, logit_bias: key ? {} : await server.endless() };

async function keyed() {
  await check("openai: the right key", async () => {
    assert.ok((await client.models.list()).data.length > 0);
    assert.ok((await client.chat.completions.create(drawn)).choices[0].message.content);
  });
  for (const wrong of ["not-the-key", ""]) {
    await check(`openai: ${wrong ? "a wrong" : "no"} key is an AuthenticationError`, async () => {
      const other = new OpenAI({
        baseURL: `${url}/v1`,
        apiKey: wrong || "none",
        maxRetries: 0,
        defaultHeaders: wrong ? {} : { authorization: null },
      });
      for (const call of [() => other.models.list(), () => other.chat.completions.create(drawn),
        () => other.chat.completions.create({ ...drawn, stream: true })]) {
        const error = await rejection(call());
        assert.ok(error instanceof OpenAI.AuthenticationError, String(error));
        assert.equal(error.status, 401);
        assert.equal(error.code, "invalid_api_key");
        assert.equal(error.type, "authentication_error");
      }
    });
  }
}

async function models() {
  await check("openai: models.list and retrieve", async () => {
    const ids = [];
    for await (const one of client.models.list()) ids.push(one.id);
    assert.deepEqual(ids.slice(0, 4), [model, "ruvltra-base", "ruvltra-coder", "ruvltra-agent"]);
    const one = await client.models.retrieve(model);
    assert.equal(one.object, "model");
    assert.equal(one.owned_by, "ruvltra");
    assert.ok(Number.isInteger(one.created));
    assert.ok((await rejection(client.models.retrieve("gpt-0"))) instanceof OpenAI.NotFoundError);
  });
}

async function chat() {
  let whole;
  await check("openai: a whole answer", async () => {
    const answer = await client.chat.completions.create(drawn);
    assert.match(answer.id, /^chatcmpl-/);
    assert.equal(answer.object, "chat.completion");
    assert.equal(answer.model, model);
    assert.match(answer.system_fingerprint, /^rv_[0-9a-f]{12}$/);
    const [choice] = answer.choices;
    assert.equal(choice.index, 0);
    assert.equal(choice.message.role, "assistant");
    assert.equal(choice.message.refusal, null);
    assert.equal(choice.finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 40);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + 40);
    whole = choice.message.content;
    assert.ok(whole.length > 40);
    assert.ok(answer._request_id, "the x-request-id header");
  });
  await check("openai: the same seed gives the same text, another seed another one", async () => {
    sameText((await client.chat.completions.create(drawn)).choices[0].message.content, whole);
    const other = await client.chat.completions.create({ ...drawn, seed: 8 });
    assert.notEqual(other.choices[0].message.content, whole);
    const left = await client.chat.completions.create({ ...drawn, seed: undefined });
    const again = await client.chat.completions.create({ ...drawn, seed: left.ruvltra.seed });
    sameText(again.choices[0].message.content, left.choices[0].message.content);
  });
  await check("openai: a stream is the whole answer in pieces", async () => {
    const stream = await client.chat.completions.create({ ...drawn, stream: true, stream_options: { include_usage: true } });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    assert.deepEqual(chunks[0].choices[0].delta, { role: "assistant", content: "" });
    sameText(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), whole);
    const last = chunks.at(-1);
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.completion_tokens, 40);
    for (const chunk of chunks.slice(0, -1)) assert.equal(chunk.usage, null);
    const reasons = chunks.map((chunk) => chunk.choices[0]?.finish_reason).filter(Boolean);
    assert.deepEqual(reasons, ["length"]);
    assert.ok(chunks.length > 20, `${chunks.length} chunks`);
    assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  });
  await check("openai: n = 2, whole and streamed", async () => {
    const two = await client.chat.completions.create({ ...drawn, n: 2 });
    const texts = two.choices.map((choice) => choice.message.content);
    sameText(texts[0], whole);
    assert.notEqual(texts[1], whole);
    assert.equal(two.usage.completion_tokens, 80);
    const parts = ["", ""];
    for await (const chunk of await client.chat.completions.create({ ...drawn, n: 2, stream: true }))
      for (const choice of chunk.choices) parts[choice.index] += choice.delta.content ?? "";
    assert.deepEqual(parts, texts);
  });
  await check("openai: stop strings", async () => {
    const word = whole.trim().split(/\s+/)[4];
    const cut = whole.slice(0, whole.indexOf(word));
    const answer = await client.chat.completions.create({ ...drawn, stop: [word, "never said"] });
    assert.equal(answer.choices[0].finish_reason, "stop");
    sameText(answer.choices[0].message.content, cut);
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...drawn, stop: word, stream: true }))
      text += chunk.choices[0].delta.content ?? "";
    sameText(text, cut);
  });
  await check("openai: chat.completions.stream and its events", async () => {
    const stream = client.chat.completions.stream({ ...drawn, stream_options: { include_usage: true } });
    let seen = "";
    stream.on("content", (delta, snapshot) => {
      seen += delta;
      assert.equal(snapshot, seen);
    });
    sameText(await stream.finalContent(), whole);
    sameText(seen, whole);
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].finish_reason, "length");
    assert.equal((await stream.totalUsage()).completion_tokens, 40);
  });
  await check("openai: roles and parts", async () => {
    const answer = await client.chat.completions.create({
      ...drawn,
      messages: [{ role: "developer", content: [{ type: "text", text: "Be " }, { type: "text", text: "brief." }] },
        { role: "user", content: [{ type: "text", text: "Hello" }] },
        { role: "assistant", content: "Hello" }, { role: "user", content: "And now?" }],
    });
    const same = await client.chat.completions.create({
      ...drawn,
      messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Hello" },
        { role: "assistant", content: "Hello" }, { role: "user", content: "And now?" }],
    });
    sameText(answer.choices[0].message.content, same.choices[0].message.content);
  });
  return whole;
}

const Weather = z.strictObject({ place: z.enum(["Aachen", "Berlin"]), days: z.number().int().min(1).max(7) });
const parameters = z.toJSONSchema(Weather);
const tool = { type: "function", function: { name: "get_weather", description: "The weather of a place", parameters } };
const asked = { model, seed: 3, max_tokens: 200, messages: [{ role: "user", content: "What is the weather?" }] };

async function tools() {
  let first;
  await check("openai: tool_choice required gives arguments of the schema", async () => {
    const answer = await client.chat.completions.create({
      ...asked, tools: [tool], tool_choice: "required", parallel_tool_calls: false,
    });
    const [choice] = answer.choices;
    assert.equal(choice.finish_reason, "tool_calls");
    assert.equal(choice.message.content, null);
    assert.equal(choice.message.tool_calls.length, 1);
    [first] = choice.message.tool_calls;
    assert.match(first.id, /^call_/);
    assert.equal(first.function.name, "get_weather");
    Weather.parse(JSON.parse(first.function.arguments));
  });
  await check("openai: a named function out of two", async () => {
    const other = { type: "function", function: { name: "tell_time" } };
    for (const name of ["tell_time", "get_weather"]) {
      const answer = await client.chat.completions.create({
        ...asked, tools: [other, tool], tool_choice: { type: "function", function: { name } },
      });
      assert.equal(answer.choices[0].message.tool_calls[0].function.name, name);
    }
  });
  await check("openai: a streamed call, put together by the SDK", async () => {
    const stream = client.chat.completions.stream({
      ...asked, tools: [tool], tool_choice: "required", parallel_tool_calls: false,
    });
    let done = 0;
    stream.on("tool_calls.function.arguments.done", (event) => {
      done += 1;
      assert.equal(event.name, "get_weather");
    });
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].finish_reason, "tool_calls");
    assert.equal(final.choices[0].message.tool_calls[0].function.arguments, first.function.arguments);
    assert.equal(done, 1);
  });
  await check("openai: a tool's result goes back", async () => {
    const answer = await client.chat.completions.create({
      ...asked,
      tools: [tool],
      tool_choice: "none",
      messages: [...asked.messages, { role: "assistant", content: null, tool_calls: [first] },
        { role: "tool", tool_call_id: first.id, content: "rain" }],
    });
    assert.equal(answer.choices[0].message.tool_calls, undefined);
    const { json } = await server.post("/apply-template", {
      messages: [...asked.messages, { role: "assistant", content: null, tool_calls: [first] },
        { role: "tool", tool_call_id: first.id, content: "rain" }],
    });
    assert.match(json.prompt, /rain/);
    assert.equal((await server.post("/tokenize", { content: json.prompt })).json.tokens.length, answer.usage.prompt_tokens);
  });
  await check("openai: runTools calls the function", async () => {
    const given = [];
    const runner = client.chat.completions.runTools({
      ...asked,
      tools: [{
        type: "function",
        function: {
          name: "get_weather", parameters, parse: (text) => Weather.parse(JSON.parse(text)),
          function: (value) => { given.push(value); return "rain"; },
        },
      }],
      tool_choice: { type: "function", function: { name: "get_weather" } },
    });
    await runner.done();
    assert.equal(given.length, 1);
    assert.ok(["Aachen", "Berlin"].includes(given[0].place));
    assert.equal(runner.messages.at(-1).role, "tool");
  });
}

const Animal = z.strictObject({
  kind: z.enum(["fox", "crow"]), legs: z.number().int().min(2).max(4), names: z.array(z.string().max(8)).max(2),
});

async function forms() {
  await check("openai: chat.completions.parse with a zod schema", async () => {
    const answer = await client.chat.completions.parse({ ...asked, response_format: zodResponseFormat(Animal, "animal") });
    assert.equal(answer.choices[0].finish_reason, "stop");
    Animal.parse(answer.choices[0].message.parsed);
  });
  await check("openai: json_schema streamed, parsed by the SDK", async () => {
    const stream = client.chat.completions.stream({ ...asked, response_format: zodResponseFormat(Animal, "animal") });
    Animal.parse((await stream.finalChatCompletion()).choices[0].message.parsed);
  });
  await check("openai: json_object", async () => {
    const answer = await client.chat.completions.create({ ...asked, max_tokens: 300, response_format: { type: "json_object" } });
    const [choice] = answer.choices;
    assert.ok(choice.message.content.startsWith("{"));
    if (choice.finish_reason === "stop") assert.equal(typeof JSON.parse(choice.message.content), "object");
  });
  await check("openai: a schema that is not understood is a BadRequestError that names the keyword", async () => {
    const error = await rejection(client.chat.completions.create({
      ...asked,
      response_format: { type: "json_schema", json_schema: { name: "x", schema: { type: "string", pattern: "a+" } } },
    }));
    assert.ok(error instanceof OpenAI.BadRequestError, String(error));
    assert.match(error.message, /pattern/);
  });
}

async function logprobs(whole) {
  const look = (content, text) => {
    assert.equal(content.map((one) => one.token).join(""), text);
    assert.equal(Buffer.from(content.flatMap((one) => one.bytes)).toString(), text);
    for (const one of content) {
      assert.ok(one.logprob <= 0);
      assert.equal(one.top_logprobs.length, 3);
      for (let i = 1; i < 3; ++i) assert.ok(one.top_logprobs[i - 1].logprob >= one.top_logprobs[i].logprob);
      const own = one.top_logprobs.find((top) => top.token === one.token);
      if (own) assert.equal(own.logprob, one.logprob);
      else assert.ok(one.logprob <= one.top_logprobs[2].logprob);
    }
  };
  await check("openai: logprobs of a chat, whole and streamed", async () => {
    const order = { ...drawn, logprobs: true, top_logprobs: 3 };
    const answer = await client.chat.completions.create(order);
    sameText(answer.choices[0].message.content, whole);
    look(answer.choices[0].logprobs.content, whole);
    const content = [];
    for await (const chunk of await client.chat.completions.create({ ...order, stream: true }))
      content.push(...(chunk.choices[0].logprobs?.content ?? []));
    assert.deepEqual(content, answer.choices[0].logprobs.content);
  });
  await check("openai: temperature 0 draws the likeliest token", async () => {
    const answer = await client.chat.completions.create({ ...drawn, temperature: 0, logprobs: true, top_logprobs: 1 });
    for (const one of answer.choices[0].logprobs.content) assert.equal(one.token, one.top_logprobs[0].token);
  });
  await check("openai: logprobs of a completion with echo are those of the prompt", async () => {
    const prompt = "Once upon a time there was a fox.";
    const answer = await client.completions.create({ model, prompt, max_tokens: 4, echo: true, logprobs: 2, seed: 1 });
    const [choice] = answer.choices;
    assert.ok(choice.text.startsWith(prompt));
    const { tokens, token_logprobs: values, top_logprobs: tops, text_offset: offsets } = choice.logprobs;
    assert.equal(tokens.join(""), choice.text);
    assert.equal(tokens.length, answer.usage.total_tokens);
    assert.equal(values[0], null);
    assert.equal(tops[0], null);
    tokens.reduce((at, token, i) => {
      assert.equal(offsets[i], at);
      return at + token.length;
    }, 0);
    for (let i = 1; i < tokens.length; ++i) {
      assert.ok(values[i] <= 0);
      // The drawn or given token may stand beside the two likeliest ones.
      assert.ok(Object.keys(tops[i]).length >= 1);
    }
    // Given again as a prompt alone, every token has the same value: the form lm-evaluation-harness uses.
    const scored = await client.completions.create({ model, prompt: choice.text, max_tokens: 0, echo: true, logprobs: 1 });
    assert.equal(scored.choices[0].text, choice.text);
    assert.equal(scored.usage.completion_tokens, 0);
    assert.equal(scored.system_fingerprint, answer.system_fingerprint);
    scored.choices[0].logprobs.token_logprobs.forEach((value, i) => {
      if (i > 0) assert.ok(Math.abs(value - values[i]) < 1e-3, `${i}: ${value}, ${values[i]}`);
    });
  });
}

async function completions() {
  await check("openai: completions of a text, of token ids and of several", async () => {
    const prompt = "Once upon a time";
    const order = { model, max_tokens: 12, seed: 5 };
    const text = await client.completions.create({ ...order, prompt });
    assert.match(text.id, /^cmpl-/);
    assert.equal(text.choices[0].finish_reason, "length");
    const { json } = await server.post("/tokenize", { content: prompt });
    const ids = await client.completions.create({ ...order, prompt: json.tokens });
    sameText(ids.choices[0].text, text.choices[0].text);
    const three = await client.completions.create({ ...order, prompt: [prompt, "The crow", prompt] });
    assert.deepEqual(three.choices.map((choice) => choice.index), [0, 1, 2]);
    sameText(three.choices[0].text, text.choices[0].text);
    assert.notEqual(three.choices[1].text, text.choices[0].text);
    let streamed = "";
    const offsets = [];
    for await (const chunk of await client.completions.create({ ...order, prompt, stream: true, logprobs: 1 })) {
      streamed += chunk.choices[0]?.text ?? "";
      offsets.push(...(chunk.choices[0]?.logprobs?.text_offset ?? []));
    }
    sameText(streamed, text.choices[0].text);
    const at = await client.completions.create({ ...order, prompt, logprobs: 1 });
    assert.deepEqual(offsets, at.choices[0].logprobs.text_offset);
  });
}

async function embeddings() {
  await check("openai: embeddings, base64 (the SDK's own choice), float and dimensions", async () => {
    const input = ["a fox", "a crow", "a fox"];
    const own = await client.embeddings.create({ model, input });
    const float = await client.embeddings.create({ model, input, encoding_format: "float" });
    assert.deepEqual(own.data.map((one) => one.index), [0, 1, 2]);
    own.data.forEach((one, i) => {
      assert.equal(one.embedding.length, float.data[i].embedding.length);
      one.embedding.forEach((value, k) => assert.equal(Math.fround(float.data[i].embedding[k]), Math.fround(value)));
      assert.ok(Math.abs(Math.hypot(...one.embedding) - 1) < 1e-5);
    });
    assert.deepEqual(own.data[0].embedding, own.data[2].embedding);
    assert.notDeepEqual(own.data[0].embedding, own.data[1].embedding);
    assert.ok(own.usage.prompt_tokens > 0);
    const short = await client.embeddings.create({ model, input: input[0], dimensions: 16, encoding_format: "float" });
    const begin = float.data[0].embedding.slice(0, 16);
    const norm = Math.hypot(...begin);
    assert.equal(short.data[0].embedding.length, 16);
    short.data[0].embedding.forEach((value, k) => assert.ok(Math.abs(value - begin[k] / norm) < 1e-5));
  });
}

async function errors() {
  const refused = async (order, param, pattern, code = "request.field") => {
    const error = await rejection(client.chat.completions.create({ ...drawn, ...order }));
    assert.ok(error instanceof OpenAI.BadRequestError, String(error));
    assert.equal(error.status, 400);
    assert.equal(error.type, "invalid_request_error");
    assert.equal(error.param, param);
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
  };
  await check("openai: a BadRequestError names the param", async () => {
    await refused({ temperature: 3 }, "temperature", /0 to 2/);
    await refused({ top_p: 0 }, "top_p", /above 0/);
    await refused({ n: 17 }, "n", /1 to 16/);
    await refused({ max_tokens: 0 }, "max_tokens", /found 0/);
    await refused({ messages: "Hello" }, "messages", /an array/);
    await refused({ messages: [{ role: "king", content: "x" }] }, "messages[0].role", /king/);
    await refused({ messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
      "messages[0].content", /text/);
    await refused({ stop: [""] }, "stop", /1 to 256/);
    await refused({ logit_bias: { 99999: 1 } }, "logit_bias", /99999/);
    await refused({ stream: "yes" }, "stream", /true or false/);
    await refused({ tool_choice: "required" }, "tool_choice", /tools/);
  });
  await check("openai: an overlong prompt", async () => {
    const error = await rejection(client.chat.completions.create({
      ...drawn, messages: [{ role: "user", content: "fox and crow ".repeat(2000) }],
    }));
    assert.ok(error instanceof OpenAI.BadRequestError, String(error));
    assert.equal(error.code, "context_length_exceeded");
  });
  await check("openai: an unknown model is a NotFoundError", async () => {
    const error = await rejection(client.chat.completions.create({ ...drawn, model: "gpt-4o-mini" }));
    assert.ok(error instanceof OpenAI.NotFoundError, String(error));
    assert.equal(error.code, "model_not_found");
    assert.equal(error.param, "model");
    assert.ok((await rejection(client.embeddings.create({ model: "gpt-0", input: "x" }))) instanceof OpenAI.NotFoundError);
  });
}

async function aborts() {
  const order = { model, messages, n: 8, max_tokens: 2000, seed: 1, logit_bias: drawn.logit_bias };
  await check("openai: abort in the middle of a stream frees everything", async () => {
    await server.cancels(8, async () => {
      const stream = await client.chat.completions.create({ ...order, stream: true });
      let chunks = 0;
      for await (const chunk of stream) {
        if (chunk.choices[0]?.delta.content) chunks += 1;
        if (chunks === 20) stream.controller.abort();
      }
      assert.ok(chunks >= 20);
    });
  });
  await check("openai: abort of a whole answer and of the streaming helper", async () => {
    await server.cancels(16, async () => {
      const abort = new AbortController();
      const answer = rejection(client.chat.completions.create(order, { signal: abort.signal }));
      const stream = client.chat.completions.stream(order);
      const ended = rejection(stream.done());
      await server.isRunning(2);
      abort.abort();
      stream.abort();
      assert.ok((await answer) instanceof OpenAI.APIUserAbortError);
      assert.ok((await ended) instanceof OpenAI.APIUserAbortError);
    });
  });
}

if (key) {
  await keyed();
} else {
  await models();
  const whole = await chat();
  await tools();
  await forms();
  await logprobs(whole);
  await completions();
  await embeddings();
  await errors();
  await aborts();
}
finish();
