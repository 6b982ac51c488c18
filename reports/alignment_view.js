'use strict';
// One alignment: words of source and output, and the heat map of the weights between them. It can be shown growing step
// by step, and saved as a file.

Object.assign(ZH, {
  'Source': '原文', 'Output': '译文', 'Alignment': '对齐', '(empty)': '（空）', '(nothing to align)': '（没有可对齐的词）',
  'This model has no attention.': '该模型没有注意力机制。', 'probability': '概率', 'candidates': '候选词',
  'unknown word': '未登录词', 'copied word': '复制的词', 'attention weight': '注意力权重',
  'output \\ source': '输出 \\ 输入', 'Download %s': '下载 %s',
  '(too large to draw: point at a word)': '（表格过大，无法显示：请将指针移到词上）',
});

const LARGEST_TABLE = 40000;  // cells; a browser takes seconds to lay out more

const decimals = weight => (weight / 1000).toFixed(3);
const heaviest = (weights, words) => weights.map((weight, n) => [weight, n]).filter(pair => pair[0] >= 50)
  .sort((a, b) => b[0] - a[0] || a[1] - b[1]).slice(0, 5)
  .map(([weight, n]) => `${words[n]} ${decimals(weight)}`).join(', ');

let alignments = 0;  // makes ids unique

class Alignment {
  // Adds an empty section to `parent`.
  constructor(parent, title) {
    this.section = add(parent, 'section');
    const id = `alignment-${++alignments}`;
    if (title) add(this.section, 'h2', title);
    for (const [name, heading] of [['source', 'Source'], ['output', 'Output']]) {
      add(this.section, 'h3', say(heading), {id: `${id}-${name}`});
      const words = this[name] = add(this.section, 'div', undefined, {className: `${name} words`});
      words.setAttribute('role', 'toolbar');
      words.setAttribute('aria-labelledby', `${id}-${name}`);
    }
    this.player = new AlignmentPlayer(this.section, shown => this.grow(shown));
    this.step = add(this.section, 'p', '', {className: 'step'});
    this.step.setAttribute('role', 'status');
    add(this.section, 'h3', say('Alignment'), {id: `${id}-heat`});
    this.heat = add(this.section, 'div', undefined, {className: 'heat'});
    this.heatName = `${id}-heat`;
    this.downloads = add(this.section, 'div', undefined, {className: 'downloads'});
    for (const kind of Object.keys(ALIGNMENT_FILES)) {
      add(this.downloads, 'button', say('Download %s', kind.toUpperCase()), {type: 'button', onclick: () =>
        downloadAlignment(kind, {sources: this.sources, tokens: this.hypothesis.tokens, weights: this.weights})});
    }
    this.listen();
  }

  // sentence: {source_tokens, unknown}; hypothesis: {tokens, weights (T, S) in thousandths or null, unknown, copied,
  // log_probabilities, candidates}: all but tokens and weights may be absent. `bold`: positions of output tokens.
  show(sentence, hypothesis, bold) {
    this.sources = sentence.source_tokens;
    this.hypothesis = hypothesis || {tokens: [], weights: null};
    this.weights = this.hypothesis.weights;
    const {tokens, unknown, copied} = this.hypothesis;
    this.fill(this.source, this.sources, {unknown: sentence.unknown});
    this.fill(this.output, tokens, {unknown, copied, differs: bold});
    if (!tokens.length) add(this.output, 'i', say('(empty)'));
    this.heat.replaceChildren();
    this.heat.scrollTo(0, 0);
    this.pinned = null;
    const cells = this.weights ? this.weights.length * this.sources.length : 0;
    if (cells && cells <= LARGEST_TABLE) this.table();
    else {
      const text = !this.weights ? 'This model has no attention.' : cells ? '(too large to draw: point at a word)'
        : '(nothing to align)';
      add(this.heat, 'p', say(text), {className: 'quiet'});
    }
    this.downloads.hidden = !cells || cells > LARGEST_TABLE;
    this.player.reset(cells ? tokens.length : 0);
  }

  // Shows the first output tokens alone, and the attention of the last of these.
  grow(shown) {
    this.shown = shown;
    for (const rows of [this.output.children, this.heat.querySelectorAll('tbody tr')]) {
      [...rows].forEach((row, t) => row.classList.toggle('later', t >= shown && t < this.hypothesis.tokens.length));
    }
    this.clear();
  }

  // Keeps the highlight of a word or a cell, or ends that.
  pin(t, s) {
    const again = this.pinned && this.pinned[0] === t && this.pinned[1] === s;
    this.pinned = t < 0 && s < 0 || again ? null : [t, s];
    const [row, column] = this.pinned || [-1, -1];
    const press = (container, n) => [...container.children].forEach(
      (word, place) => word.setAttribute && word.setAttribute('aria-pressed', String(place === n)));
    press(this.source, row < 0 ? column : -1);
    if (this.hypothesis.tokens.length) press(this.output, column < 0 ? row : -1);
    for (const cell of this.heat.querySelectorAll('[aria-selected]')) cell.removeAttribute('aria-selected');
    const line = this.heat.querySelectorAll('tbody tr')[row];
    if (line && column >= 0) line.cells[column + 1].setAttribute('aria-selected', 'true');
    this.highlightFocused();
  }

  fill(container, tokens, marks) {
    container.replaceChildren();
    container.dir = direction(tokens);
    tokens.forEach((token, n) => {
      const word = addWord(container, 'button', token, {type: 'button', tabIndex: n ? -1 : 0});
      word.setAttribute('aria-pressed', 'false');
      for (const [name, title] of [['unknown', 'unknown word'], ['copied', 'copied word'], ['differs', '']]) {
        if (!(marks[name] || []).includes(n)) continue;
        word.classList.add(name);
        if (title) add(word, 'span', ` (${say(title)})`, {className: 'hidden-label'});
        if (title) word.title = say(title);
      }
    });
  }

  table() {
    const {tokens} = this.hypothesis;
    const table = add(this.heat, 'table');
    table.setAttribute('role', 'grid');
    table.setAttribute('aria-labelledby', this.heatName);
    const top = add(add(table, 'thead'), 'tr');
    add(top, 'th', say('output \\ source'), {className: 'corner'});
    const mark = (marks, n) => (marks || []).includes(n);
    const classes = [...this.source.children].map(word => word.classList.contains('unknown') ? 'unknown' : '');
    this.sources.forEach((token, s) => addWord(top, 'th', token, {
      scope: 'col', title: token, className: `${classes[s]} ${/^.?$/u.test(token) ? 'upright' : ''}`}));
    const body = add(table, 'tbody');
    this.weights.forEach((row, t) => {
      const line = add(body, 'tr');
      const {unknown, copied} = this.hypothesis;
      addWord(line, 'th', tokens[t], {scope: 'row', title: tokens[t],
        className: mark(unknown, t) ? 'unknown' : mark(copied, t) ? 'copied' : ''});
      row.forEach((weight, s) => {
        const cell = add(line, 'td', undefined, {tabIndex: t || s ? -1 : 0});
        cell.setAttribute('aria-label', `${tokens[t]} ← ${this.sources[s]} ${decimals(weight)}`);
        if (weight) cell.style.background = `rgba(var(--heat), ${weight / 1000})`;
      });
    });
  }

  // Highlights output word t, source word s, or the cell of both; -1 is none.
  highlight(t, s) {
    const {weights, sources} = this;
    const {tokens, log_probabilities: logs, candidates} = this.hypothesis;
    const row = weights && weights[t];
    const column = weights && s >= 0 && t < 0 ? weights.map(ofStep => ofStep[s]) : null;
    const shade = (container, values, now) => [...container.children].forEach((word, n) => {
      word.style.background = values ? `rgba(var(--shade), ${values[n] / 1000})` : '';
      word.classList.toggle('most', Boolean(values) && values[n] > 0 && values[n] === Math.max(...values));
      word.classList.toggle('now', n === now);
    });
    shade(this.source, row, s);
    shade(this.output, column, t);
    for (const cell of this.heat.querySelectorAll('.now')) cell.classList.remove('now');
    const line = this.heat.querySelectorAll('tbody tr')[t], heading = this.heat.querySelectorAll('thead th')[s + 1];
    if (line) line.cells[0].classList.add('now');
    if (s >= 0 && heading) heading.classList.add('now');
    if (line && s >= 0) line.cells[s + 1].classList.add('now');
    const lines = [];
    if (t >= 0 && s >= 0 && row) lines.push(`${tokens[t]} ← ${sources[s]}: ${decimals(row[s])}`);
    if (row) lines.push(`${tokens[t]} ← ${heaviest(row, sources)}`);
    if (column) lines.push(`${sources[s]} → ${heaviest(column, tokens)}`);
    if (t >= 0 && logs) lines.push(`${say('probability')} ${Math.exp(logs[t]).toFixed(3)}`);
    if (t >= 0 && candidates) lines.push(`${say('candidates')}: ` +
      candidates[t].map(([token, probability]) => `${token} ${probability.toFixed(3)}`).join(', '));
    this.step.textContent = lines.join(' · ');
  }

  // The highlight where nothing is pointed at: what is pinned, else the step that is shown.
  clear() {
    if (this.pinned) this.highlight(...this.pinned);
    else this.highlight(this.shown < this.hypothesis.tokens.length ? this.shown - 1 : -1, -1);
  }

  // What has the focus, or nothing.
  highlightFocused() {
    const at = document.activeElement;
    if (at.closest('.words') === this.output && this.hypothesis.tokens.length) {
      this.highlight([...this.output.children].indexOf(at), -1);
    } else if (at.closest('.words') === this.source) {
      this.highlight(-1, [...this.source.children].indexOf(at));
    } else if (at.tagName === 'TD' && this.heat.contains(at)) {
      this.highlight(at.parentElement.sectionRowIndex, at.cellIndex - 1);
    } else this.clear();
  }

  listen() {
    const focused = () => this.highlightFocused();
    for (const container of [this.source, this.output]) {
      const index = event => [...container.children].indexOf(event.target.closest('button'));
      container.onmouseover = event => {
        const n = index(event);
        if (n >= 0) this.highlight(...(container === this.output ? [n, -1] : [-1, n]));
      };
      container.onclick = event => {
        const n = index(event);
        if (n < 0) return;
        container.children[n].focus();
        this.pin(...(container === this.output ? [n, -1] : [-1, n]));
      };
      container.onmouseleave = focused;
      container.addEventListener('focusin', event => {
        // One stop for Tab.
        [...container.children].forEach(word => { word.tabIndex = word === event.target ? 0 : -1; });
        focused();
      });
      container.addEventListener('focusout', () => this.clear());
      container.onkeydown = event => {
        const arrows = container.dir === 'rtl' ? ['ArrowRight', 'ArrowLeft'] : ['ArrowLeft', 'ArrowRight'];
        const to = moved(event.key, index(event), container.children.length, ...arrows);
        if (to === undefined || index(event) < 0) return;
        event.preventDefault();
        container.children[to].focus();
      };
    }
    this.heat.onmouseover = event => {
      const cell = event.target.closest('td'), heading = event.target.closest('th');
      if (cell) this.highlight(cell.parentElement.sectionRowIndex, cell.cellIndex - 1);
      else if (heading && heading.scope === 'row') this.highlight(heading.parentElement.sectionRowIndex, -1);
      else if (heading && heading.scope === 'col') this.highlight(-1, heading.cellIndex - 1);
    };
    this.heat.onmouseleave = focused;
    this.heat.addEventListener('focusin', event => {
      const last = this.heat.querySelector('td[tabindex="0"]');
      if (last) last.tabIndex = -1;
      event.target.tabIndex = 0;
      focused();
    });
    this.heat.addEventListener('focusout', () => this.clear());
    this.heat.onclick = event => {
      const cell = event.target.closest('td');
      if (cell) this.pin(cell.parentElement.sectionRowIndex, cell.cellIndex - 1);
    };
    this.section.addEventListener('keydown', event => { if (event.key === 'Escape') this.pin(-1, -1); });
    this.heat.onkeydown = event => {
      const cell = event.target.closest('td');
      if (!cell) return;
      if (event.key === 'Enter' || event.key === ' ') {
        event.preventDefault();
        cell.click();
      }
      const rows = cell.closest('tbody').rows, t = cell.parentElement.sectionRowIndex;
      const right = moved(event.key, cell.cellIndex - 1, this.sources.length, 'ArrowLeft', 'ArrowRight');
      const down = moved(event.key, t, rows.length, 'ArrowUp', 'ArrowDown');
      const to = event.key.startsWith('Page') || right === undefined ? down : undefined;
      if (right === undefined && down === undefined) return;
      event.preventDefault();
      const next = to !== undefined ? rows[to].cells[cell.cellIndex] : cell.parentElement.cells[right + 1];
      next.focus({preventScroll: true});
      // The sticky headings must not cover the cell.
      const headings = this.heat.querySelector('.corner').getBoundingClientRect();
      const box = next.getBoundingClientRect(), view = this.heat.getBoundingClientRect();
      const over = (first, last, start, end) => Math.min(0, first - start) + Math.max(0, last - end);
      this.heat.scrollBy(over(box.left, box.right, headings.right, view.left + this.heat.clientWidth),
        over(box.top, box.bottom, headings.bottom, view.top + this.heat.clientHeight));
    };
  }
}

// Explains the colours and the marks that the page has, such as ['unknown', 'copied']; an element for its top.
function addLegend(parent, marks) {
  const legend = add(parent, 'div', undefined, {className: 'legend'});
  const scale = add(legend, 'span', `${say('attention weight')} 0`);
  add(scale, 'span', undefined, {className: 'scale'});
  scale.append('1');
  for (const name of marks) {
    addWord(legend, 'span', say(`${name} word`), {className: name});
  }
}

// Positions of `tokens` that are not in a longest common subsequence with `others`.
function differing(tokens, others) {
  const common = tokens.map(() => new Uint16Array(others.length + 1)).concat([new Uint16Array(others.length + 1)]);
  for (let i = tokens.length - 1; i >= 0; i--) {
    for (let j = others.length - 1; j >= 0; j--) {
      common[i][j] = tokens[i] === others[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
    }
  }
  const found = [];
  for (let i = 0, j = 0; i < tokens.length;) {
    if (j < others.length && tokens[i] === others[j]) { i++; j++; }
    else if (j < others.length && common[i][j + 1] >= common[i + 1][j]) j++;
    else found.push(i++);
  }
  return found;
}
