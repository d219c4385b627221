// Speculative decoding of llama.cpp (through node-llama-cpp), against its own plain decoding:
//   node speculative.mjs TARGET.gguf DRAFT.gguf|lookup THREADS TOKENS LOOKAHEAD ROUNDS [CUT_OFF]
// Openings are continued at temperature 0, plain and speculating in turn, from the first token to the last. Prints a
// line of JSON: tokens per second of both, the median of their ratios, the share of drafts that came true, and
// whether the texts agree. CUT_OFF is the draft's confidence below which it stops (default 0).
import {DraftSequenceTokenPredictor, getLlama, InputLookupTokenPredictor, LlamaLogLevel} from "node-llama-cpp";

const [target, draft, threadsText, tokensText, lookaheadText, roundsText, cutOffText = "0"] = process.argv.slice(2);
const [threads, nTokens, lookahead, rounds, cutOff] =
  [threadsText, tokensText, lookaheadText, roundsText, cutOffText].map(Number);
const OPENINGS = [
  "Once upon a time there was an old king who had three sons, and the youngest of them was called the simple one because he spoke little. One day the king fell ill,",
  "There was once a poor fisherman who lived with his wife in a small hut by the sea. Every morning he went out with his net, and one day he drew up a great fish, which said to him,",
  "In a deep forest there lived a wolf and a fox, who had promised each other to share whatever they found. When the winter came and there was nothing to eat, the fox said to the wolf,",
  "A rich merchant had a daughter whom everybody praised for her good heart. When he had to go upon a journey, he asked her what he should bring home for her, and she answered,",
];

const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error, maxThreads: threads});
const settings = {contextSize: 1024, batchSize: 512, threads, flashAttention: true};
const model = await llama.loadModel({modelPath: target, gpuLayers: 0});
const plain = (await model.createContext(settings)).getSequence();
const withDrafts = (await model.createContext(settings)).getSequence({tokenPredictor: await predictor()});

async function predictor() {
  if (draft === "lookup")
    return new InputLookupTokenPredictor({patternLength: {min: 3, max: 16}, predictionLength: {min: 1, max: lookahead}});
  const small = await llama.loadModel({modelPath: draft, gpuLayers: 0});
  return new DraftSequenceTokenPredictor((await small.createContext(settings)).getSequence(),
    {minTokens: 0, maxTokens: lookahead, minConfidence: cutOff});
}

async function generate(sequence, prompt) {
  await sequence.clearHistory();
  const tokens = [];
  let begin = 0;
  for await (const token of sequence.evaluate(prompt, {temperature: 0})) {
    if (tokens.length === 0) begin = performance.now();
    tokens.push(token);
    if (tokens.length === nTokens) break;
  }
  return {tokens, seconds: (performance.now() - begin) / 1000};
}

const median = values => values.sort((a, b) => a - b)[values.length >> 1];
const rates = {plain: [], speculative: [], ratio: []};
let same = true;
for (let round = 0; round <= rounds; ++round) {
  for (const opening of OPENINGS) {
    const prompt = model.tokenize(opening);
    const a = await generate(plain, prompt);
    const b = await generate(withDrafts, prompt);
    same &&= a.tokens.join() === b.tokens.join();
    if (round === 0 || a.tokens.length < 2) continue;  // the first round warms up
    rates.plain.push((a.tokens.length - 1) / a.seconds);
    rates.speculative.push((b.tokens.length - 1) / b.seconds);
    rates.ratio.push(a.seconds / b.seconds);
  }
}
const {validated, refuted} = withDrafts.tokenPredictions;
console.log(JSON.stringify({draft: draft === "lookup" ? draft : "model", lookahead, cut_off: cutOff,
  plain_ts: median(rates.plain), speculative_ts: median(rates.speculative), speedup: median(rates.ratio),
  validated, refuted, same_tokens: same}));
await model.dispose();
await llama.dispose();
