// Dashboard, router and SONA with the figures of a server that has worked and learned; phone and colours.
import assert from 'node:assert/strict';
import { endless, finished, getJson, lastAnswer, send, statistics } from './chat.mjs';
import { check, noSidewaysScroll, order, shoot, until, visitor } from './harness.mjs';

const post = async (path, body) => {
  const reply = await fetch(order.open + path, { method: 'POST', body: JSON.stringify(body) });
  const json = await reply.json();
  assert.ok(reply.ok, `${path}: ${JSON.stringify(json)}`);
  return json;
};

export async function pageChecks() {
  const page = await visitor(order.open);
  const open = async (name) => { await page.getByRole('navigation').getByRole('link', { name, exact: true }).click(); };

  await check('the dashboard moves, and cancels a request', async () => {
    await open('Dashboard');
    const tile = (label) => page.locator('.tile', { hasText: label }).locator('b');
    await tile('Running').waitFor();
    const before = (await statistics()).requests.cancelled;
    const bias = await endless();
    const tell = (about, signal) => fetch(`${order.open}/v1/chat/completions`, { method: 'POST', signal, body: JSON.stringify({
      model: 'ruvltra-base', max_tokens: 1900, n: 8, logit_bias: bias, messages: [{ role: 'user', content: `Tell me a long story about a ${about}.` }], stream: true }) })
      .then((reply) => reply.text());
    // Others are in front of it: on a fast machine it would be told before it can be cancelled.
    const others = new AbortController();
    for (let i = 0; i < 12; i++) tell('whale', others.signal).catch(() => {});
    await until('others to run', async () => (await statistics()).requests.running === 8);
    const running = tell('ship');
    const row = page.locator('.requests tbody tr', { hasText: 'story about a ship' });
    await row.waitFor();
    await shoot(page, 'dashboard');
    await row.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('Cancelled.').waitFor();
    const heading = page.locator('.plot', { hasText: 'Tokens a second' }).locator('dd').first();
    await until('the tokens of the last second in the plot', async () => Number((await heading.innerText()).replaceAll(',', '')) > 0);
    await until('the requests to be cancelled', async () => (await statistics()).requests.cancelled === before + 8, 2000);
    others.abort();
    await running;
    await row.waitFor({ state: 'detached' });
    assert.equal(await page.locator('.plot canvas').count(), 8);
    assert.match(await tile('Tokens a second').innerText(), /\d/);
    assert.match(await page.locator('.kv canvas').getAttribute('aria-label'), /\d+ shared, \d+ published, \d+ private, \d+ free/);
    // The plots show what the stream said: some point of the first one is not zero.
    const colours = await page.locator('.plot canvas').first().evaluate((canvas) => new Set(new Uint32Array(
      canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size);
    assert.ok(colours > 8, `a drawn plot, found ${colours} colours`);
  });

  await check('the router answers, shows its evidence and takes feedback', async () => {
    const task = 'Review the login form for injection attacks';
    const { decision_id: decision } = await post('/v1/route', { task });
    await post('/v1/feedback', { decision_id: decision, agent: 'security-auditor', quality: 0.9 });
    await open('Router');
    await page.getByLabel('Task').fill(task);
    const [reply] = await Promise.all([page.waitForResponse('**/v1/route'), page.keyboard.press('Enter')]);
    const said = await reply.json();
    await page.locator('.decision h3', { hasText: said.primaryAgent.type }).waitFor();
    assert.equal(await page.locator('.agents li').count(), 1 + said.alternativeAgents.length);
    assert.ok(said.evidence.length > 0, 'the outcome posted above is evidence');
    assert.equal(await page.locator('.evidence tbody tr').count(), said.evidence.length);
    assert.ok(await page.locator('.registry li').count() >= 15);
    await shoot(page, 'router');
    const [taken] = await Promise.all([page.waitForResponse('**/v1/feedback'), page.locator('.agents li').first().getByRole('button', { name: /did it well/ }).click()]);
    assert.equal(taken.status(), 200);
  });

  await check('SONA shows generations, and rolls back by compare and swap', async () => {
    await post('/v1/sona/reset', {});
    await post('/v1/sona/reset', {});
    const { data, live } = await getJson('/v1/sona/adapters');
    assert.ok(data.length >= 2, `two generations, found ${JSON.stringify(data)}`);
    await open('SONA');
    const items = page.locator('.timeline li');
    await items.nth(data.length - 1).waitFor();
    await shoot(page, 'sona');
    await items.nth(1).getByRole('button', { name: 'Roll back' }).click();
    const dialog = page.getByRole('dialog');
    await shoot(page, 'rollback');
    const [request] = await Promise.all([page.waitForRequest('**/v1/sona/rollback'), dialog.getByRole('button', { name: 'Roll back' }).click()]);
    assert.deepEqual(request.postDataJSON(), { to_generation: data[1].generation, expected_generation: live.generation });
    await page.getByText(/Back to what generation/).waitFor();
    const after = await getJson('/v1/sona/adapters');
    assert.equal(after.live.generation, live.generation + 1);
    assert.equal(after.live.hash, data[1].hash);

    // What was published since the page looked is not overwritten.
    await items.nth(data.length).waitFor();
    await items.last().getByRole('button', { name: 'Roll back' }).click();
    await post('/v1/sona/reset', {});
    await dialog.getByRole('button', { name: 'Roll back' }).click();
    await page.getByText(/in the meantime/).waitFor();
    page.quiet(/^console: Failed to load resource.*409/);
  });

  await check('freeze, and search in the bank', async () => {
    await page.getByRole('button', { name: 'Freeze' }).click();
    await until('the freeze', async () => (await getJson('/v1/sona/status')).frozen === true);
    await page.getByRole('button', { name: 'Go on learning' }).click();
    await until('learning again', async () => (await getJson('/v1/sona/status')).frozen === false);
    await page.getByLabel('Search the bank').fill('Tell me a story about a cat and a bear.');
    await page.keyboard.press('Enter');
    await page.locator('.bank li', { hasText: 'half of her honey' }).waitFor();
  });

  await check('nothing unwanted on the pages', () => page.quiet());
  await page.context().close();

  await check('360 pixels are enough, in the dark, too', async () => {
    const phone = await visitor(order.open, { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: 'dark' });
    await noSidewaysScroll(phone);
    await send(phone, 'Tell me a story about a frog.');
    await finished(phone);
    await noSidewaysScroll(phone);
    await shoot(phone, 'phone-chat');
    for (const name of ['Dashboard', 'Router', 'SONA']) {
      await phone.getByRole('button', { name: 'Show the side bar' }).click();
      if (name === 'Dashboard') await shoot(phone, 'phone-sidebar');
      await phone.getByRole('navigation').getByRole('link', { name, exact: true }).click();
      await phone.getByRole('heading', { name, level: 1, exact: true }).waitFor();
      await phone.locator('.card').last().waitFor();
      await phone.waitForTimeout(150);
      await noSidewaysScroll(phone);
      await shoot(phone, `phone-${name.toLowerCase()}`);
    }
    await phone.getByRole('button', { name: 'Show the side bar' }).click();
    await phone.getByRole('button', { name: 'Settings' }).click();
    await noSidewaysScroll(phone);
    phone.quiet();
    await phone.context().close();
  });

  await check('colours follow the system, and the toggle', async () => {
    const dark = await visitor(order.open, { colorScheme: 'dark' });
    const ground = () => dark.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const night = await ground();
    await send(dark, 'Tell me a story about a witch and a frog.');
    await finished(dark);
    await lastAnswer(dark).waitFor();
    await shoot(dark, 'dark');
    await dark.getByRole('button', { name: 'Colours: as the system' }).click();
    assert.notEqual(await ground(), night);
    await dark.getByRole('button', { name: 'Colours: light' }).click();
    assert.equal(await ground(), night);
    dark.quiet();
    await dark.context().close();
  });
}
