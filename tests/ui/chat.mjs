// The chat against a running model.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { check, order, shoot, until, visitor } from './harness.mjs';

const STORY = 'Tell me a story about a fox and a crow.';
export const getJson = async (path, headers = {}) => (await fetch(order.open + path, { headers })).json();

export async function send(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.getByRole('button', { name: 'Send' }).click();
}
/** Ids of the tokens that end an answer, as a logit_bias that forbids them: the bundled model's stories are short. */
export async function endless() {
  const reply = await fetch(`${order.open}/tokenize`, { method: 'POST', body: JSON.stringify({ content: '<|im_end|><|endoftext|>', parse_special: true }) });
  return Object.fromEntries((await reply.json()).tokens.map((id) => [id, -100]));
}
async function newChat(page) {
  await page.getByRole('link', { name: 'New chat' }).click();
  await page.getByRole('heading', { name: 'What is on your mind?' }).waitFor();
}
export const answers = (page) => page.getByRole('article', { name: 'Answer' });
export const lastAnswer = (page) => answers(page).last();
/** The text of the last answer, once it is complete; it may be empty. */
export async function finished(page) {
  await lastAnswer(page).getByRole('button', { name: 'Another answer' }).waitFor();
  return (await lastAnswer(page).locator('.prose').allInnerTexts()).join();
}

/** The first event of the statistics. */
export async function statistics() {
  const stop = new AbortController();
  const reply = await fetch(`${order.open}/v1/stats/stream`, { signal: stop.signal });
  const { value } = await reply.body.getReader().read();
  stop.abort();
  return JSON.parse(new TextDecoder().decode(value).slice('data: '.length));
}

async function set(page, fields) {
  await page.getByRole('button', { name: 'Settings' }).click();
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label).fill(String(value));
  await page.keyboard.press('Escape');
}

export async function chatChecks() {
  const page = await visitor(order.open);
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: order.open });
  let first = '';

  await check('the policy of the page', async () => {
    const { headers } = { headers: (await fetch(`${order.open}/`)).headers };
    assert.equal(headers.get('content-security-policy'), "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
      + "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
    assert.equal(headers.get('referrer-policy'), 'no-referrer');
  });

  await check('settings reach the request', async () => {
    await shoot(page, 'welcome');
    await set(page, { Seed: 7, Temperature: 0.7, 'Top-k': 40, 'Longest answer': 120, 'System prompt': 'You tell stories.' });
    const [request] = await Promise.all([page.waitForRequest('**/v1/chat/completions'), send(page, STORY)]);
    const body = request.postDataJSON();
    assert.deepEqual([body.model, body.seed, body.temperature, body.top_k, body.max_tokens, body.top_p, body.bank],
      ['ruvltra-base', 7, 0.7, 40, 120, undefined, undefined]);
    assert.deepEqual(body.messages, [{ role: 'system', content: 'You tell stories.' }, { role: 'user', content: STORY }]);
    assert.deepEqual([body.stream, body.return_progress, body.stream_options], [true, true, { include_usage: true }]);
  });

  await check('an answer streams and is measured', async () => {
    first = await finished(page);
    assert.ok(first.length > 40, `a story, found ${JSON.stringify(first)}`);
    assert.match(await lastAnswer(page).locator('.figures').innerText(), /\d tok\/s[^]*to the first[^]*\d tokens/);
  });

  await check('the answer is that of the API', async () => {
    const reply = await fetch(`${order.open}/v1/chat/completions`, { method: 'POST', body: JSON.stringify({
      model: 'ruvltra-base', seed: 7, temperature: 0.7, top_k: 40, max_tokens: 120,
      messages: [{ role: 'system', content: 'You tell stories.' }, { role: 'user', content: STORY }] }) });
    const text = (await reply.json()).choices[0].message.content;
    const words = (t) => t.replace(/\s+/g, ' ').trim();
    assert.equal(words(first), words(text));
  });

  await check('copy', async () => {
    await lastAnswer(page).getByRole('button', { name: 'Copy', exact: true }).click();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(copied.replace(/\s+/g, ' ').trim(), first.replace(/\s+/g, ' ').trim());
  });

  await check('continue goes on from the last token', async () => {
    const before = first.replace(/\s+/g, ' ').trim();
    const raw = await page.evaluate(() => navigator.clipboard.readText());
    const [request] = await Promise.all([page.waitForRequest('**/v1/completions'), lastAnswer(page).getByRole('button', { name: 'Continue' }).click()]);
    const reply = await fetch(`${order.open}/detokenize`, { method: 'POST', body: JSON.stringify({ tokens: request.postDataJSON().prompt }) });
    const { content } = await reply.json();
    assert.ok(content.includes(STORY) && content.endsWith(raw), `the prompt is the dialogue so far, found ${content}`);
    const after = (await finished(page)).replace(/\s+/g, ' ').trim();
    assert.ok(after.startsWith(before) && after.length > before.length + 20, `${before} -> ${after}`);
    first = await finished(page);
  });

  await check('regenerate adds a version', async () => {
    await set(page, { Seed: '' });
    await lastAnswer(page).getByRole('button', { name: 'Another answer' }).click();
    const second = await finished(page);
    assert.notEqual(second, first);
    assert.match(await lastAnswer(page).locator('.versions').innerText(), /2\/2/);
    await lastAnswer(page).getByRole('button', { name: 'Previous version' }).click();
    assert.equal(await finished(page), first);
    assert.match(await lastAnswer(page).locator('.versions').innerText(), /1\/2/);
  });

  await check('edit makes a branch and keeps the old one', async () => {
    const user = page.getByRole('article', { name: 'You' });
    await user.hover();
    await user.getByRole('button', { name: 'Edit' }).click();
    await page.getByLabel('Edit your message').fill('Tell me a story about a king and a mouse.');
    await page.keyboard.press('Control+Enter');
    await finished(page);
    assert.equal(await user.locator('.bubble').innerText(), 'Tell me a story about a king and a mouse.');
    assert.match(await user.locator('.versions').innerText(), /2\/2/);
    await user.getByRole('button', { name: 'Previous version' }).click();
    assert.equal(await user.locator('.bubble').innerText(), STORY);
    assert.equal(await finished(page), first);
  });

  await check('a reload keeps the conversation', async () => {
    await page.waitForTimeout(100);
    await page.reload();
    assert.equal(await finished(page), first);
    assert.match(await page.getByRole('article', { name: 'You' }).locator('.versions').innerText(), /1\/2/);
  });

  await check('what was drafted is tinted on request, and only then', async () => {
    const tint = async (on) => {
      await page.getByRole('button', { name: 'Settings' }).click();
      await page.getByLabel('Tint drafted text').setChecked(on);
      await page.keyboard.press('Escape');
    };
    // The browser drops what it streamed: a copy is taken in the page.
    await page.evaluate(() => {
      const { fetch } = window;
      window.fetch = async (...order) => {
        const response = await fetch(...order);
        if (response.url.endsWith('/completions')) window.said = response.clone().text().catch(() => '');
        return response;
      };
    });
    // What the last answer must be like after the given replies: its text, and each run of it that was drafted.
    const told = { text: '', runs: [] };
    let inside = false;
    const take = async (path, act) => {
      const [request] = await Promise.all([page.waitForRequest(`**${path}`), act()]);
      await finished(page);
      for (const line of (await page.evaluate(() => window.said)).split('\n').filter((l) => l.startsWith('data: {'))) {
        const { choices: [choice], drafted } = JSON.parse(line.slice('data: '.length));
        const piece = choice?.delta?.content ?? choice?.text ?? '';
        if (piece === '') continue;
        if (drafted && !inside) told.runs.push('');
        if (drafted) told.runs[told.runs.length - 1] += piece;
        inside = Boolean(drafted);
        told.text += piece;
      }
      return request.postDataJSON();
    };
    const marks = lastAnswer(page).locator('mark');
    const isTinted = async () => {
      assert.deepEqual(await marks.allTextContents(), told.runs);
      assert.equal(await lastAnswer(page).locator('.plain').textContent(), told.text);
      const share = Math.round((100 * told.runs.join('').length) / told.text.length);
      assert.equal(await lastAnswer(page).locator('.tint-note').innerText(), `drafted text is tinted; ${share} % of this answer`);
    };
    const isPlain = async () => {
      assert.deepEqual([await marks.count(), await lastAnswer(page).locator('.plain, .tint-note').count()], [0, 0]);
      assert.ok(await lastAnswer(page).locator('.prose p').count() > 0);
    };

    await set(page, { Seed: 7, 'Longest answer': 40 });
    await newChat(page);
    assert.equal((await take('/v1/chat/completions', () => send(page, STORY))).return_drafted, undefined);
    assert.deepEqual(told.runs, []);
    await tint(true);
    await isPlain();

    await newChat(page);
    told.text = '';
    assert.equal((await take('/v1/chat/completions', () => send(page, STORY))).return_drafted, true);
    assert.ok(told.runs.length > 0, 'something was drafted');
    await isTinted();
    const before = told.text.length;
    await take('/v1/completions', () => lastAnswer(page).getByRole('button', { name: 'Continue' }).click());
    assert.ok(told.text.length > before);
    await isTinted();
    await shoot(page, 'tinted');
    await page.emulateMedia({ colorScheme: 'dark' });
    await shoot(page, 'tinted-dark');
    await page.emulateMedia({ colorScheme: 'light' });
    await page.waitForTimeout(100);
    await page.reload();
    await marks.first().waitFor();
    await isTinted();
    await tint(false);
    await isPlain();
  });

  await check('stop cancels on the server', async () => {
    await set(page, { 'Longest answer': 1900 });
    // Eight answers of 1,900 tokens that cannot end by themselves: there is time to stop them on a fast machine, too.
    const bias = await endless();
    await page.route('**/v1/chat/completions', (route) => route.continue({ postData: JSON.stringify({ ...route.request().postDataJSON(), n: 8, logit_bias: bias }) }));
    await newChat(page);
    const before = (await statistics()).requests.cancelled;
    await page.getByLabel('Message', { exact: true }).fill('Tell me a long story about a giant.\nWith a castle.');
    await page.keyboard.press('Enter');
    await lastAnswer(page).locator('.prose').waitFor();
    await page.keyboard.press('Escape');
    await lastAnswer(page).locator('.figures', { hasText: 'stopped' }).waitFor();
    await until('the requests to end', async () => (await statistics()).requests.cancelled === before + 8, 2000);
    await page.unroute('**/v1/chat/completions');
    const pages = await getJson('/v1/kv/pages');
    assert.equal(pages.private, 0, 'pages of the request are free again');
  });

  await check('a rating and a correction reach the server', async () => {
    await set(page, { 'Longest answer': 60 });
    await newChat(page);
    await send(page, 'Tell me a story about a cat and a bear.');
    await finished(page);
    const reply = async (press) => (await Promise.all([page.waitForResponse('**/v1/feedback'), press()]))[0];
    const good = await reply(() => lastAnswer(page).getByRole('button', { name: 'Good answer' }).click());
    assert.equal(good.status(), 200);
    await until('the button to stay pressed', async () => await lastAnswer(page).getByRole('button', { name: 'Good answer' }).getAttribute('aria-pressed') === 'true');
    await lastAnswer(page).getByRole('button', { name: 'Correct this answer' }).click();
    await page.getByLabel('The answer as it should have been').fill('The cat gave the bear half of her honey, and they were friends.');
    const fixed = await reply(() => page.getByRole('button', { name: 'Record the correction' }).click());
    assert.equal(fixed.status(), 200);
    await until('the correction in the bank', async () => {
      const found = await fetch(`${order.open}/v1/hnsw/search`, { method: 'POST', body: JSON.stringify({ query: 'a cat and a bear', limit: 10 }) });
      return (await found.json()).some(({ content }) => content.includes('half of her honey'));
    });
    assert.equal(await lastAnswer(page).locator('.prose').innerText(), 'The cat gave the bear half of her honey, and they were friends.');
    assert.match(await lastAnswer(page).locator('.versions').innerText(), /2\/2/);
  });

  await check('search, rename, delete', async () => {
    await page.keyboard.press('Control+k');
    await page.getByLabel('Search conversations').fill('half of her honey');
    assert.equal(await page.getByRole('option').first().innerText().then((t) => t.split('\n')[0]), 'Tell me a story about a cat and a bear.');
    await page.keyboard.press('Enter');
    const row = page.locator('.row.active');
    await row.hover();
    await row.getByRole('button', { name: 'Rename' }).click();
    await page.getByLabel('Name of the conversation').fill('Honey');
    await page.keyboard.press('Enter');
    await page.locator('.row.active', { hasText: 'Honey' }).waitFor();
    assert.equal(await page.title(), 'Honey · ruvltra');
    const before = await page.locator('.row').count();
    await page.locator('.row.active').hover();
    await page.locator('.row.active').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await until('one conversation less', async () => (await page.locator('.row').count()) === before - 1);
    await page.reload();
    await page.locator('.row').first().waitFor();
    assert.equal(await page.locator('.row').count(), before - 1);
  });

  await check('what is exported can be imported', async () => {
    await page.getByRole('button', { name: 'Settings' }).click();
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export' }).click()]);
    const text = readFileSync(await download.path(), 'utf8');
    const n = JSON.parse(text).conversations.length;
    await page.locator('input[type=file]').setInputFiles({ name: 'all.json', mimeType: 'application/json', buffer: Buffer.from(text) });
    await page.getByText(/imported/).waitFor();
    await page.locator('input[type=file]').setInputFiles({ name: 'bad.json', mimeType: 'application/json', buffer: Buffer.from(text.replace('"user"', '"root"')) });
    await page.getByText(/role: expected user or assistant/).waitFor();
    await page.keyboard.press('Escape');
    assert.equal(await page.locator('.row').count(), 2 * n);
  });

  await check('nothing unwanted in the chat', () => page.quiet());
  await page.context().close();
}
