// Tokens per second of llama.cpp (through node-llama-cpp): node speed.mjs MODEL.gguf THREADS TEST...
// Tests: ppN a prompt of N tokens, tgN generates N, kN one step of N tokens, bN generates with N sequences at once.
// A short warm-up, then one measured pass of each; prints {"pp512": tok/s, ...}.
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [modelPath, threadsText, ...tests] = process.argv.slice(2);
const threads = Number(threadsText);
const sizes = tests.map(test => [test.slice(0, test.search(/\d/)), Number(test.slice(test.search(/\d/)))]);
const largest = kind => Math.max(0, ...sizes.filter(([k]) => k === kind).map(([, n]) => n));
const BATCH_STEPS = 16, STEP_REPETITIONS = 10;

const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error, maxThreads: threads});
const model = await llama.loadModel({modelPath, gpuLayers: 0});
const context = await model.createContext({contextSize: Math.max(largest("pp"), largest("tg"), 512) + 64,
  sequences: Math.max(1, largest("b")), batchSize: 512, threads, flashAttention: true});
const sequences = Array.from({length: Math.max(1, largest("b"))}, () => context.getSequence());
const ids = Array.from({length: largest("pp") + 512}, (_, i) => 1000 + (i * 7919) % 2000);

async function seconds(work) {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
}

async function prefill(n) {
  await sequences[0].clearHistory();
  return n / await seconds(() => sequences[0].evaluateWithoutGeneratingNewTokens(ids.slice(0, n)));
}

async function step(n) {
  const times = [];
  for (let i = 0; i < STEP_REPETITIONS; ++i) times.push(n / await prefill(n));
  return n * STEP_REPETITIONS / times.reduce((a, b) => a + b);
}

async function decode(nSequences, nSteps) {
  const iterators = [];
  for (const sequence of sequences.slice(0, nSequences)) {
    await sequence.clearHistory();
    iterators.push(sequence.evaluate(ids.slice(0, 1), {temperature: 0}));
  }
  const all = () => Promise.all(iterators.map(iterator => iterator.next()));
  await all();
  const elapsed = await seconds(async () => { for (let i = 0; i < nSteps; ++i) await all(); });
  await Promise.all(iterators.map(iterator => iterator.return()));
  return nSequences * nSteps / elapsed;
}

const measure = {pp: prefill, k: step, tg: n => decode(1, n), b: n => decode(n, BATCH_STEPS)};
await prefill(64);
await decode(1, 4);
const figures = {};
for (let i = 0; i < tests.length; ++i) figures[tests[i]] = await measure[sizes[i][0]](sizes[i][1]);
console.log(JSON.stringify(figures));
await model.dispose();
await llama.dispose();
