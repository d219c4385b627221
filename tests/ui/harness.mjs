// A browser, pages that notice what must not happen, and checks that are counted.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { chromium } = createRequire(new URL('../../ui/', import.meta.url))('playwright-core');

export const order = JSON.parse(process.argv[2]);
mkdirSync(order.screenshots, { recursive: true });
const browser = await chromium.launch({ executablePath: order.chromium, args: ['--no-sandbox', '--force-prefers-reduced-motion'] });

let failed = 0;

// A fault outside any check, such as a server that is gone, is a failure too, and names itself.
process.on('unhandledRejection', (error) => { failed++; console.log(`FAILED  ${error.message.split('\n')[0]}`); });

/** Runs a check; a failure is printed and counted, and the others still run. */
export async function check(name, body) {
  const begin = Date.now();
  try {
    await body();
    console.log(`ok      ${name} (${Date.now() - begin} ms)`);
  } catch (error) {
    failed++;
    for (const [i, page] of browser.contexts().flatMap((context) => context.pages()).entries()) await shoot(page, `failed-${failed}-${i}`).catch(() => {});
    console.log(`FAILED  ${name}\n        ${String(error.stack ?? error).split('\n').slice(0, 12).join('\n        ')}`);
  }
}

export async function finish() {
  await browser.close();
  console.log(failed ? `${failed} checks failed` : 'all checks passed');
  process.exitCode = failed ? 1 : 0;
}

/**
 * A page of a new visitor. `page.trouble` collects console errors, exceptions, dialogs and requests to other origins;
 * `page.quiet()` asserts that there were none, apart from what `allowed` (a pattern) matches.
 */
export async function visitor(url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, colorScheme: 'light', acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(order.timeout ?? 20_000);
  page.trouble = [];
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) page.trouble.push(`console: ${message.text()}`); });
  page.on('pageerror', (error) => page.trouble.push(`exception: ${error.message}`));
  page.on('dialog', (dialog) => { page.trouble.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  const local = (address) => address.startsWith(`${url}/`) || address.startsWith('data:') || address.startsWith(`blob:${url}`);
  context.on('request', (request) => { if (!local(request.url())) page.trouble.push(`request: ${request.url()}`); });
  page.quiet = (allowed = /(?!)/) => {
    const left = page.trouble.filter((line) => !allowed.test(line));
    page.trouble.length = 0;
    assert.deepEqual(left, []);
  };
  // Short answers, the same in every run, unless a test says otherwise.
  await page.addInitScript(() => { if (!localStorage['ruvltra-settings']) localStorage['ruvltra-settings'] = '{"max_tokens":"50","seed":"3"}'; });
  if (order.dist) await serveFolder(context, url);
  await page.goto(`${url}/`);
  return page;
}

// Same headers, other bodies: the policy stays the server's.
async function serveFolder(context, url) {
  const files = { '/': 'index.html', '/ui/app.js': 'app.js', '/ui/app.css': 'app.css' };
  for (const [path, file] of Object.entries(files)) {
    await context.route(`${url}${path}`, async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: readFileSync(join(order.dist, file), 'utf8') });
    });
  }
}

export const shoot = (page, name) => page.screenshot({ path: join(order.screenshots, `${name}.png`), animations: 'disabled' });

/** Waits until a condition of this side holds. */
export async function until(what, condition, timeout = order.timeout ?? 20_000) {
  const deadline = Date.now() + timeout;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `waited ${timeout} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

/** Nothing can be scrolled sideways: neither the page nor any of its own scrolling parts. */
export async function noSidewaysScroll(page) {
  const wide = await page.evaluate(() => [document.documentElement, document.body, ...document.querySelectorAll('main, .page, .scroller, .list, dialog, .dialog-body')]
    .filter((element) => element.scrollWidth > element.clientWidth + 1)
    .map((element) => `${element.tagName}.${element.className}: ${element.scrollWidth} in ${element.clientWidth}`));
  assert.deepEqual(wide, []);
}
