// The Anthropic library against `ruvltra serve`: npm install @anthropic-ai/sdk
import Anthropic from "@anthropic-ai/sdk";

const url = process.env.RUVLTRA_URL ?? "http://127.0.0.1:8080";
const client = new Anthropic({ baseURL: url, apiKey: process.env.RUVLTRA_KEY ?? "local" });

const stream = client.messages.stream({
  model: "ruvltra-base",
  max_tokens: 64,
  messages: [{ role: "user", content: "Tell me a story about a fox." }],
});
stream.on("text", (text) => process.stdout.write(text));
const message = await stream.finalMessage();
console.log(`\n${message.stop_reason}, ${message.usage.output_tokens} tokens`);
