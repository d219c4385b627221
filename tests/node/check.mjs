// What the tests of the SDKs share: checks that print a line each, and the server as no SDK shows it.
import assert from "node:assert/strict";

let failed = 0;

// Runs one check; prints "ok NAME" or "FAIL NAME" with the reason.
export async function check(name, body) {
  try {
    await body();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error?.stack ?? error}`);
  }
}

export function finish() {
  process.exit(failed === 0 ? 0 : 1);
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Server {
  constructor(url, key) {
    this.url = url;
    this.headers = key ? { authorization: `Bearer ${key}` } : {};
  }
  async get(path) {
    const response = await fetch(this.url + path, { headers: this.headers });
    assert.equal(response.status, 200, path);
    return response.json();
  }
  async post(path, body) {
    const response = await fetch(this.url + path, {
      method: "POST",
      headers: { ...this.headers, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: response.status, json: await response.json() };
  }
  // The first view of the dashboard's stream.
  async stats() {
    const abort = new AbortController();
    const response = await fetch(`${this.url}/v1/stats/stream`, { headers: this.headers, signal: abort.signal });
    let text = "";
    for await (const piece of response.body) {
      text += Buffer.from(piece).toString();
      if (text.includes("\n\n")) break;
    }
    abort.abort();
    return JSON.parse(text.slice("data: ".length, text.indexOf("\n\n")));
  }
  // Bias against the tokens that end an answer: it goes on until max_tokens.
  async endless() {
    const bias = {};
    for (const content of ["<|im_end|>", "<|endoftext|>"]) {
      const { json } = await this.post("/tokenize", { content });
      assert.equal(json.tokens.length, 1);
      bias[json.tokens[0]] = -100;
    }
    return bias;
  }
  // What an abort must leave: within a second no request, and no page in private hands.
  async becomesIdle() {
    const end = Date.now() + 1000;
    for (;;) {
      const running = (await this.get("/v1/requests")).data;
      const pages = await this.get("/v1/kv/pages");
      if (running.length === 0 && pages.private === 0 && pages.free + pages.published === pages.total) return;
      assert.ok(Date.now() < end, `still there: ${JSON.stringify({ running, pages })}`);
      await sleep(20);
    }
  }
  async isRunning(n) {
    const end = Date.now() + 5000;
    while ((await this.get("/v1/requests")).data.length < n) {
      assert.ok(Date.now() < end, `never ${n} requests at once`);
      await sleep(5);
    }
  }
  // Runs `start`, which begins answers and aborts them, and looks at what the engine says became of them.
  async cancels(n, start) {
    const before = (await this.stats()).requests;
    await start();
    await this.becomesIdle();
    const after = (await this.stats()).requests;
    assert.equal(after.cancelled - before.cancelled, n, "answers that were cancelled before their end");
  }
}

// Whether the lines of two texts agree is told by where they part.
export function sameText(found, expected) {
  assert.equal(typeof found, "string");
  assert.ok(expected.length > 0, "an empty text says nothing");
  assert.equal(found, expected);
}

export async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("expected an error, found an answer");
}
