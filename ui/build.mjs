// Bundles src/ into dist/ (index.html, app.js, app.css) and writes LICENSES.md. `--out FOLDER` builds elsewhere, which is
// how tests/ui_bundle_test.py compares the committed bytes with fresh ones.
//
// esbuild-wasm is esbuild itself, compiled to WebAssembly: the same bytes on every platform, and no optional
// platform package to install.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild-wasm';

const here = dirname(fileURLToPath(import.meta.url));
const flag = process.argv.indexOf('--out');
const out = flag > 0 ? process.argv[flag + 1] : here;
const dist = join(out, 'dist');

// What ends up in app.js or app.css; esbuild and playwright-core only help to make and test it.
const BUNDLED = ['dompurify', 'highlight.js', 'htm', 'marked', 'preact', 'uplot'];

function manifest(name) {
  return JSON.parse(readFileSync(join(here, 'node_modules', name, 'package.json'), 'utf8'));
}

function licences() {
  const parts = ['# Licences of what the web page bundles\n\nWritten by `npm run build` from the installed packages.\n'];
  parts.push('| package | version | licence |\n|---|---|---|');
  for (const name of BUNDLED) parts.push(`| ${name} | ${manifest(name).version} | ${manifest(name).license} |`);
  for (const name of BUNDLED) {
    // marked calls its file LICENSE.md; the others LICENSE.
    let text;
    for (const file of ['LICENSE', 'LICENSE.md']) {
      try { text ??= readFileSync(join(here, 'node_modules', name, file), 'utf8'); } catch { /* the other name */ }
    }
    if (text === undefined) throw new Error(`${name}: expected a LICENSE file`);
    const clean = text.replaceAll('\r\n', '\n').split('\n').map((line) => line.trimEnd()).join('\n').trim();
    parts.push(`\n## ${name}\n\n\`\`\`\n${clean}\n\`\`\``);
  }
  return parts.join('\n') + '\n';
}

mkdirSync(dist, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: { app: 'src/main.js' },
  bundle: true,
  minify: true,
  format: 'iife',
  target: ['es2022', 'chrome110', 'firefox115', 'safari16.4'],
  charset: 'utf8',
  legalComments: 'none',
  banner: { js: `/* ${BUNDLED.join(', ')}: licences in ui/LICENSES.md */` },
  outdir: dist,
  logLevel: 'warning',
});
const page = readFileSync(join(here, 'src', 'index.html'), 'utf8');
writeFileSync(join(dist, 'index.html'), page.replace(/>\n\s*</g, '><'));
writeFileSync(join(out, 'LICENSES.md'), licences());
