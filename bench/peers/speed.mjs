// Tokens per second of llama.cpp (through node-llama-cpp): node speed.mjs MODEL.gguf N_PROMPT N_GEN THREADS [BATCH]
// One warm-up, then one measured pass; prints {"pp": tok/s, "tg": tok/s}.
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [modelPath, ...numbers] = process.argv.slice(2);
const [nPrompt, nGen, threads, batchSize = 512] = numbers.map(Number);
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error, maxThreads: threads});
const model = await llama.loadModel({modelPath, gpuLayers: 0});
const context = await model.createContext({contextSize: nPrompt + nGen + 64, sequences: 1, batchSize, threads, flashAttention: true});
const sequence = context.getSequence();
const ids = Array.from({length: nPrompt}, (_, i) => 1000 + (i * 7919) % 2000);

async function prefill(n) {
  await sequence.clearHistory();
  const begin = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(ids.slice(0, n));
  return n / ((performance.now() - begin) / 1000);
}

async function decode(n) {
  await sequence.clearHistory();
  const iterator = sequence.evaluate(ids.slice(0, 1), {temperature: 0});
  await iterator.next();
  const begin = performance.now();
  for (let i = 0; i < n; ++i) await iterator.next();
  const rate = n / ((performance.now() - begin) / 1000);
  await iterator.return();
  return rate;
}

await prefill(Math.min(nPrompt, 64));
await decode(4);
console.log(JSON.stringify({pp: await prefill(nPrompt), tg: await decode(nGen)}));
await model.dispose();
await llama.dispose();
