// Code colouring: the languages people ask a small model about, and no more (each costs bytes of the binary).
import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import cpp from 'highlight.js/lib/languages/cpp';
import css from 'highlight.js/lib/languages/css';
import diff from 'highlight.js/lib/languages/diff';
import go from 'highlight.js/lib/languages/go';
import java from 'highlight.js/lib/languages/java';
import javascript from 'highlight.js/lib/languages/javascript';
import json from 'highlight.js/lib/languages/json';
import python from 'highlight.js/lib/languages/python';
import rust from 'highlight.js/lib/languages/rust';
import sql from 'highlight.js/lib/languages/sql';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';

const languages = { bash, cpp, css, diff, go, java, javascript, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);
hljs.registerAliases(['c', 'c++', 'h', 'hpp'], { languageName: 'cpp' });

// Colouring is quadratic for some inputs: a huge block is shown plain.
const LIMIT = 50_000;
const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** {language: label to show, markup: safe HTML}. */
export function highlight(text, name) {
  const known = name && hljs.getLanguage(name);
  if (!known || text.length > LIMIT) return { language: name || 'text', markup: escape(text) };
  return { language: name.toLowerCase(), markup: hljs.highlight(text, { language: name, ignoreIllegals: true }).value };
}
