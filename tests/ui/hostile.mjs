// Texts that try to become more than text. A model cannot be made to say them on demand, so they come as an imported
// conversation, which passes the same renderer as an answer.
import assert from 'node:assert/strict';
import { check, order, visitor } from './harness.mjs';

const RUN = 'window.ran=1;alert(1);fetch("https://evil.test/f")';
export const HOSTILE = [
  `<script>${RUN}</script>`,
  `<script src="https://evil.test/x.js"></script>`,
  `<img src=x onerror='${RUN}'>`,
  `<img src="https://evil.test/pixel.png">`,
  `<svg onload='${RUN}'><animate onbegin='${RUN}' attributeName=x></svg>`,
  `<svg><style><img src=x onerror='${RUN}'></style></svg>`,
  `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=${RUN}&gt;">`,
  `<form action="https://evil.test/"><input autofocus onfocus='${RUN}'><button formaction="javascript:${RUN}">x</button></form>`,
  `<iframe src="https://evil.test/"></iframe><iframe srcdoc="<script>parent.ran=1</script>"></iframe>`,
  `<object data="https://evil.test/x"></object><embed src="https://evil.test/y">`,
  `<link rel=stylesheet href="https://evil.test/x.css"><style>@import "https://evil.test/y.css";</style>`,
  `<base href="https://evil.test/"><meta http-equiv=refresh content="0;url=https://evil.test/">`,
  `<a href="javascript:${RUN}">click</a> <a href="https://evil.test/" style="position:fixed;inset:0" onclick='${RUN}'>all</a>`,
  `<details open ontoggle='${RUN}'>x</details><video poster="https://evil.test/p"><source onerror='${RUN}'></video>`,
  `<div class="code"><button class="code-copy" onclick='${RUN}'>Copy</button></div>`,
  `<noscript><p title="</noscript><img src=x onerror=${RUN}>">`,
  '![pixel](https://evil.test/pixel.png)', '![x](https://evil.test/a.png "t" onerror=alert(1))', '![data](data:image/svg+xml,<svg onload=alert(1)>)',
  '[click](javascript:alert(1))', '[click](JaVaScRiPt:alert(1))', '[click](java\tscript:alert(1))', '[click](javascript&colon;alert(1))', '[click](&#x6A;avascript:alert(1))',
  '[click](data:text/html,<script>alert(1)</script>)', '[click](vbscript:msgbox(1))', '[click](//evil.test/x)', '<javascript:alert(1)>',
  '[ref]\n\n[ref]: javascript:alert(1)', '[q](https://evil.test/" onmouseover="alert(1))', '[a](<https://evil.test/"><img src=x onerror=alert(1)>>)',
  '```"><img src=x onerror=alert(1)>\ncode\n```', '```html\n<img src=x onerror=alert(1)>\n```', '`<img src=x onerror=alert(1)>`',
  '| <img src=x onerror=alert(1)> | b |\n|---|---|\n| <script>alert(1)</script> | ![x](https://evil.test/t.png) |',
  '> <img src=x onerror=alert(1)>\n\n- <svg onload=alert(1)>\n- [x] <b onclick=alert(1)>b</b>', '# <script>alert(1)</script>', '<!-- --><script>alert(1)</script><!-- -->',
  '&lt;script&gt;alert(1)&lt;/script&gt;', '<<script>script>alert(1)<</script>/script>', '\u202e<img/src=x/onerror=alert(1)>', '<x\0script>alert(1)</script>',
];

// No ranges of a text: they are left behind when a file is imported.
const NO_RANGES = [[[5, 2]], [['0', 3]], [[0, 1e9]], [[0, 3], [2, 5]], [[-1, 3]], [[0]], [null], 'all', { length: 1 }];

function conversation() {
  const nodes = {};
  let parent = null;
  HOSTILE.forEach((content, i) => {
    const [user, assistant] = [`u${i}`, `a${i}`];
    if (parent) nodes[parent].children = [user];
    nodes[user] = { id: user, parent, role: 'user', content, children: [assistant], active: 0, time: 1, info: {} };
    nodes[assistant] = { id: assistant, parent: user, role: 'assistant', content, children: [], active: 0, time: 1,
      info: { request_id: content, model: content, finish_reason: content, error: { message: content }, timings: { predicted_n: content },
        drafted: NO_RANGES[i] ?? [[1, content.length]] } };
    parent = assistant;
  });
  return { id: '<script>', title: '<img src=x onerror=alert(1)>', named: true, created: 1, updated: 1, children: ['u0'], active: 0, nodes };
}

export async function hostileChecks() {
  const page = await visitor(order.open);
  await check(`${HOSTILE.length} hostile texts stay text`, async () => {
    const file = JSON.stringify({ format: 'ruvltra-conversations', version: 1, conversations: [conversation()] });
    await page.getByRole('button', { name: 'Settings' }).click();
    await page.locator('input[type=file]').setInputFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from(file) });
    await page.getByText('One conversation imported.').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('.row a').click();
    await page.getByRole('article', { name: 'Answer' }).nth(HOSTILE.length - 1).waitFor();
    await page.waitForTimeout(500);  // for whatever would load

    const found = await page.evaluate(() => {
      const bad = [];
      const scope = [...document.querySelectorAll('.prose, .bubble, .row, .topbar')];
      const allowed = new Set(['A', 'BLOCKQUOTE', 'BR', 'BUTTON', 'CODE', 'DEL', 'DIV', 'EM', 'H1', 'H2', 'H3', 'HR', 'LI', 'OL', 'P', 'PRE', 'SPAN', 'STRONG', 'TABLE', 'TBODY', 'TD', 'TH', 'THEAD', 'TR', 'UL', 'svg', 'path']);
      for (const element of scope.flatMap((root) => [...root.querySelectorAll('*')])) {
        if (!allowed.has(element.tagName)) bad.push(`<${element.tagName}>`);
        for (const { name, value } of element.attributes) {
          if (/^on|^style$|^src|^action|^formaction|^srcdoc|^poster|^id$|^name$/i.test(name)) bad.push(`${element.tagName} ${name}=${value}`);
        }
      }
      for (const link of document.querySelectorAll('.prose a')) {
        if (!/^(https?|mailto):/.test(link.protocol) || link.target !== '_blank' || link.rel !== 'noopener noreferrer') bad.push(link.outerHTML);
      }
      return { bad, ran: window.ran, links: document.querySelectorAll('.prose a').length, text: document.querySelector('.prose').textContent };
    });
    assert.deepEqual(found.bad, []);
    assert.equal(found.ran, undefined);
    assert.ok(found.links >= 4, `harmless links stay links, found ${found.links}`);
    assert.ok(found.text.includes('<script>'), 'raw HTML is shown');
    page.quiet();
  });

  await check('tinted, they stay text, too', async () => {
    await page.getByRole('button', { name: 'Settings' }).click();
    await page.getByLabel('Tint drafted text').check();
    await page.keyboard.press('Escape');
    const tinted = HOSTILE.slice(NO_RANGES.length);
    await page.locator('mark').nth(tinted.length - 1).waitFor();
    await page.waitForTimeout(500);  // for whatever would load
    assert.deepEqual(await page.locator('mark').evaluateAll((marks) => marks.map((mark) => mark.textContent)), tinted.map((text) => text.slice(1)));
    assert.deepEqual(await page.locator('.plain').evaluateAll((texts) => texts.map((text) => text.textContent)), tinted);
    assert.equal(await page.locator('.plain *:not(mark), mark *').count(), 0);
    assert.equal(await page.evaluate(() => window.ran), undefined);
    page.quiet();
  });
  await page.context().close();
}
