// Markdown of answers -> safe HTML. Three walls: raw HTML is shown as text, the result passes an allow list, and the
// page's Content-Security-Policy runs no inline script and loads nothing from elsewhere.
import { Marked } from 'marked';
import DOMPurify from 'dompurify';
import { highlight } from './highlight.js';

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text) => text.replace(/[&<>"']/g, (c) => escapes[c]);

const SAFE_LINK = /^(?:https?:|mailto:)/i;

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text, block }) => (block ? `<p>${escape(text)}</p>` : escape(text)),
    link(token) {
      const inner = this.parser.parseInline(token.tokens);
      return SAFE_LINK.test(token.href) ? `<a href="${escape(token.href)}">${inner}</a>` : inner;
    },
    // An image would tell its host who reads the answer: its description, and a link that a person may follow.
    image({ href, text }) {
      const label = `image: ${escape(text || 'no description')}`;
      return SAFE_LINK.test(href) ? `<a href="${escape(href)}">${label}</a>` : label;
    },
    code({ text, lang }) {
      const { language, markup } = highlight(text, (lang ?? '').trim().split(/\s+/)[0]);
      return `<div class="code"><div class="code-head"><span>${escape(language)}</span>`
        + '<button type="button" class="code-copy" aria-label="Copy code">Copy</button></div>'
        + `<pre tabindex="0"><code>${markup}</code></pre></div>`;
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
    // Wide tables scroll inside their own box, not the page.
    table(token) {
      const cell = (tag, c) => `<${tag}${c.align ? ` align="${c.align}"` : ''}>${this.parser.parseInline(c.tokens)}</${tag}>`;
      const row = (tag, cells) => `<tr>${cells.map((c) => cell(tag, c)).join('')}</tr>`;
      return `<div class="table"><table><thead>${row('th', token.header)}</thead>`
        + `<tbody>${token.rows.map((cells) => row('td', cells)).join('')}</tbody></table></div>`;
    },
  },
});

const ALLOWED = {
  ALLOWED_TAGS: ['a', 'blockquote', 'br', 'button', 'code', 'del', 'div', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'li',
    'ol', 'p', 'pre', 'span', 'strong', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul'],
  ALLOWED_ATTR: ['align', 'aria-label', 'class', 'href', 'start', 'tabindex', 'type'],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: SAFE_LINK,
  // Every other attribute would have to look like a link.
  ADD_URI_SAFE_ATTR: ['align', 'aria-label', 'start', 'tabindex', 'type'],
};

DOMPurify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName !== 'A') return;
  node.setAttribute('target', '_blank');
  node.setAttribute('rel', 'noopener noreferrer');
});

/**
 * Top-level blocks of a text, each {key, html()}. While an answer streams only its last block changes, so a view that
 * keeps the others by their source does work proportional to the new text.
 */
export function blocks(source) {
  const tokens = marked.lexer(source);
  return tokens.filter((token) => token.type !== 'space' && token.type !== 'def').map((token) => ({
    key: token.raw,
    html: () => DOMPurify.sanitize(marked.parser(Object.assign([token], { links: tokens.links })), ALLOWED),
  }));
}

export const toHtml = (source) => blocks(source).map((block) => block.html()).join('');
