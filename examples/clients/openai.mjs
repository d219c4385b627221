// The OpenAI library against `ruvltra serve`: npm install openai
import OpenAI from "openai";

const url = process.env.RUVLTRA_URL ?? "http://127.0.0.1:8080";
const client = new OpenAI({ baseURL: url + "/v1", apiKey: process.env.RUVLTRA_KEY ?? "local" });

const stream = await client.chat.completions.create({
  model: "ruvltra-base",
  messages: [{ role: "user", content: "Tell me a story about a fox." }],
  max_tokens: 64,
  stream: true,
});
for await (const event of stream) process.stdout.write(event.choices[0]?.delta?.content ?? "");
process.stdout.write("\n");

const { data } = await client.embeddings.create({ model: "ruvltra-base", input: ["a fox", "a crow"] });
const dot = data[0].embedding.reduce((sum, value, i) => sum + value * data[1].embedding[i], 0);
console.log(`cosine of a fox and a crow: ${dot.toFixed(3)}`);
