// Loads a model in llama.cpp and evaluates a few tokens: node load_only.mjs MODEL.gguf
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: process.argv[2], gpuLayers: 0});
const context = await model.createContext({contextSize: 256, sequences: 1});
const ids = model.tokenize("Once upon a time");
const [last] = (await context.getSequence().controlledEvaluate([...ids.slice(0, -1), [ids.at(-1), {generateNext: {probabilities: true}}]])).filter(Boolean);
const best = [...last.next.probabilities.entries()][0];
console.log(JSON.stringify({type: model.typeDescription, size: model.size, n_tokens: ids.length, best}));
await model.dispose();
await llama.dispose();
