'use strict';
// What the pages share: English and Chinese, elements, keys. Text reaches a page through textContent alone, never as
// markup.

const chinese = (new URLSearchParams(location.search).get('lang') || navigator.language || '').startsWith('zh');
const ZH = {};  // what a page itself says, by the English

// The English text in the reader's language, with each %d or %s replaced by the next value.
function say(english, ...values) {
  return ((chinese && ZH[english]) || english).replace(/%[ds]/g, () => values.shift());
}

// Writes the texts of the elements with `data-say`, and the names of those with `data-name`, in the reader's language.
function translatePage() {
  if (chinese) document.documentElement.lang = 'zh-CN';
  for (const element of document.querySelectorAll('[data-say]')) element.textContent = say(element.dataset.say);
  for (const element of document.querySelectorAll('[data-name]')) {
    element.setAttribute('aria-label', say(element.dataset.name));
    if (element.placeholder !== undefined && element.placeholder) element.placeholder = say(element.placeholder);
  }
}

// The link to the page in the other language, at the same place of the page.
function addLanguageLink() {
  const other = chinese ? 'en' : 'zh', link = part('language');
  Object.assign(link, {textContent: chinese ? 'English' : '中文', lang: chinese ? 'en' : 'zh-CN', href: `?lang=${other}`});
  link.onclick = () => { link.href = `?lang=${other}${location.hash}`; };
}

const part = id => document.getElementById(id);

function add(parent, tag, text, properties) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  Object.assign(element, properties || {});
  parent.append(element);
  return element;
}

// A word in a <bdi>, so that words of mixed directions do not reorder one another.
function addWord(parent, tag, token, properties) {
  const element = add(parent, tag, undefined, properties);
  add(element, 'bdi', token);
  return element;
}

// 'rtl' or 'ltr' by the first letter with a direction; dir=auto would ignore words in <bdi>.
function direction(tokens) {
  const first = tokens.join(' ').match(/\p{L}/u);
  return first && /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(first[0]) ? 'rtl' : 'ltr';
}

// The index that a key leads to from `now` among `count`; undefined for a key that does not move.
function moved(key, now, count, back, forth) {
  const to = {[back]: now - 1, [forth]: now + 1, Home: 0, End: count - 1, PageUp: now - 10, PageDown: now + 10}[key];
  return to === undefined ? undefined : Math.max(0, Math.min(count - 1, to));
}
