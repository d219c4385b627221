// What llama.cpp (through node-llama-cpp) would say at every position of a given token sequence.
//   node teacher_forced.mjs MODEL.gguf IDS.txt OUT.json [WINDOW] [THREADS]
// IDS.txt: token ids separated by whitespace or commas, evaluated in windows of WINDOW tokens (default 256), each a fresh sequence.
// OUT.json: { positions: [[best id, p(best), second id, p(second)], ...] }, one entry per token, in order.
import fs from "node:fs";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [modelPath, idsPath, outPath, windowText = "256", threadsText = "2"] = process.argv.slice(2);
const ids = fs.readFileSync(idsPath, "utf8").split(/[\s,]+/).filter(Boolean).map(Number);
const window = Number(windowText);

const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath, gpuLayers: 0});
const context = await model.createContext({contextSize: Math.max(window, 256), sequences: 1, batchSize: window, threads: Number(threadsText)});
const sequence = context.getSequence();
const positions = [];
for (let begin = 0; begin < ids.length; begin += window) {
  await sequence.clearHistory();
  const part = ids.slice(begin, begin + window).map((id) => [id, {generateNext: {probabilities: true}}]);
  for (const output of await sequence.controlledEvaluate(part)) {
    const best = [...output.next.probabilities.entries()].slice(0, 2);
    positions.push([...best[0], ...best[1]]);
  }
}
fs.writeFileSync(outPath, JSON.stringify({positions}));
await model.dispose();
await llama.dispose();
