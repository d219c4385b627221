// Keys, a model that still loads, a busy server, a server that goes away. What a real server seldom says on demand (503
// while it loads, 429) is put before its real answers.
import assert from 'node:assert/strict';
import { answers, finished, lastAnswer, send } from './chat.mjs';
import { check, order, shoot, until, visitor } from './harness.mjs';

const STATUS = /^console: Failed to load resource/;

export async function refusalChecks() {
  await check('a keyed server asks for its key, which nothing stores', async () => {
    const page = await visitor(order.keyed);
    const prompt = page.getByRole('dialog', { name: 'API key' });
    await prompt.getByLabel('API key').fill('wrong');
    await page.keyboard.press('Enter');
    await prompt.getByText('did not accept').waitFor();
    await shoot(page, 'key');
    await prompt.getByLabel('API key').fill(order.key);
    await page.keyboard.press('Enter');
    await prompt.waitFor({ state: 'detached' });
    await page.locator('.status .dot.ready').waitFor();
    await send(page, 'Tell me a story.');
    assert.ok((await finished(page)).length > 0);
    const stored = await page.evaluate(async () => {
      const rows = await new Promise((resolve) => {
        const open = indexedDB.open('ruvltra');
        open.onsuccess = () => { const all = open.result.transaction('conversations').objectStore('conversations').getAll(); all.onsuccess = () => resolve(all.result); };
      });
      return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, rows]);
    });
    assert.ok(stored.includes('Tell me a story'), 'the conversation is what was looked at');
    assert.ok(!stored.includes(order.key), 'no copy of the key');
    page.quiet(STATUS);
    await page.reload();
    await prompt.waitFor();
    await page.context().close();
  });

  await check('one can write while the model loads', async () => {
    const page = await visitor(order.open);
    const loading = { status: 503, contentType: 'application/json', headers: { 'retry-after': '1' },
      body: JSON.stringify({ error: { message: 'model is loading', type: 'overloaded_error', param: null, code: 'model_loading' } }) };
    await page.route('**/ready', (route) => route.fulfill(loading));
    await page.reload();
    await page.getByText('The model is loading').waitFor();
    await send(page, 'Tell me a story about a hen.');
    await page.getByText('Waiting for the model').waitFor();
    await page.waitForTimeout(300);
    assert.equal(await answers(page).locator('.prose').count(), 0);
    await page.unroute('**/ready');
    assert.ok((await finished(page)).length > 0);
    assert.equal(await page.getByText('The model is loading').count(), 0);
    page.quiet(STATUS);
    await page.context().close();
  });

  await check('a busy server is asked again when it said', async () => {
    const page = await visitor(order.open);
    let tries = 0;
    const times = [];
    await page.route('**/v1/chat/completions', (route) => {
      times.push(Date.now());
      if (tries++ > 0) return route.continue();
      return route.fulfill({ status: 429, contentType: 'application/json', headers: { 'retry-after': '2' },
        body: JSON.stringify({ error: { message: 'Too many requests.', type: 'rate_limit_error', param: null, code: null } }) });
    });
    await send(page, 'Tell me a story about a goat.');
    await page.getByText(/Too many requests\. Trying again in\s+[12] s/).waitFor();
    assert.ok((await finished(page)).length > 0);
    assert.ok(times[1] - times[0] >= 1950, `waited ${times[1] - times[0]} ms`);
    page.quiet(STATUS);
    await page.context().close();
  });

  await check('a refused request says why', async () => {
    const page = await visitor(order.open);
    await send(page, 'hen '.repeat(6000));
    await lastAnswer(page).getByRole('alert').waitFor();
    assert.match(await lastAnswer(page).getByRole('alert').innerText(), /token|context/);
    page.quiet(STATUS);
    await page.context().close();
  });

  // Last: it ends the keyed server.
  await check('a server that is gone is told, and waited for', async () => {
    const page = await visitor(order.keyed);
    await page.getByRole('dialog', { name: 'API key' }).getByRole('button', { name: 'Not now' }).click();
    process.kill(order.keyedPid, 'SIGTERM');
    await until('the server to end', () => fetch(`${order.keyed}/health`).then(() => false, () => true));
    await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
    await page.getByText(/cannot be reached\. Trying again in \d+ s/).waitFor();
    page.quiet(STATUS);
    await page.context().close();
  });
}
