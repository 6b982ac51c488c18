'use strict';
// The page to try runs, for serve.py and `export.py --format web`. `makeEngine()` makes what finds the outputs:
//   start(progress)                     {runs, limits: {characters}, token}; a run as `reports/page_about.py` tells it
//   translate(run, text, options, signal, token)  an entry of `results` in the answer of POST /translate
//   force(run, text, output, token)     the same for a given output; `canForce` tells whether there is this

Object.assign(ZH, {
  'Translation': '翻译', 'Summary': '摘要', 'Answer': '问答', 'Text': '原文', 'Article': '文章', 'Story': '故事',
  'Text in %s': '原文（%s）', 'Question': '问题', 'Beam width': '束宽', 'Runs': '模型', 'Token': '令牌', 'Send': '提交',
  'Clear': '清空', 'Examples': '示例', 'Link to this text': '此文本的链接', 'Copy link': '复制链接', 'Working …': '处理中……',
  'Outputs to choose from': '候选输出', 'score': '得分', 'Copy the output': '复制译文',
  'Loading, %d of %d …': '加载中，%d / %d ……', '%s: %s → %s': '%s：%s → %s',
  '%d of %d words are unknown to the model: %s': '模型不认识 %d 个词（共 %d 个）：%s',
  'The text has %d words; the model learned from texts of at most %d, so the output may be wrong.':
    '文本有 %d 个词，而模型训练时的文本最多 %d 个词，输出可能有误。',
  'The text has %d characters, and the server takes at most %d: shorten it.': '文本有 %d 个字符，服务器最多接受 %d 个，请缩短。',
  'Type a text: its output and the attention appear here while you type.': '请输入文本，译文和注意力会随输入显示在这里。',
  'What would it attend to if it had to say another text?': '如果必须输出另一段文本，模型会注意哪里？',
  'Another output': '另一段输出', 'Show': '显示', 'Forced output, score %s': '强制输出，得分 %s',
});

const NAMES = {translate: ['Translation', 'Text'], summarise: ['Summary', 'Article'], answer: ['Answer', 'Story']};
const WAIT = 250;  // milliseconds without a key before the text is sent
const engine = makeEngine();
let about = {runs: [], limits: {}}, task = 'translate', timer = null, running = null;
const views = new Map();  // name of a run: its `RunView`

// The section of one run: the outputs to choose from, and the alignment of the chosen one.
class RunView {
  constructor(run) {
    this.view = new Alignment(part('results'), about.runs.length > 1 ? run.name : '');
    this.name = run.name;
    this.outputs = document.createElement('fieldset');
    this.outputs.className = 'outputs';
    this.view.section.prepend(this.outputs);
    if (about.runs.length > 1) this.view.section.prepend(this.view.section.querySelector('h2'));
    if (engine.canForce) this.addForced();
    this.hide(true);
  }

  hide(hidden) {
    this.view.section.hidden = hidden;
    if (this.forced) this.forced.replaceChildren();
  }

  show(result) {
    this.hide(false);
    this.result = result;
    this.outputs.replaceChildren();
    add(this.outputs, 'legend', say('Outputs to choose from'));
    result.hypotheses.forEach((one, n) => {
      const label = add(this.outputs, 'label');
      add(label, 'input', undefined, {type: 'radio', name: `output-${this.name}`, checked: n === 0,
        onchange: () => this.showHypothesis(n)});
      label.append(' ');
      add(label, 'bdi', one.text || say('(empty)'));
      label.append(' ');
      add(label, 'small', `${say('score')} ${one.score.toFixed(3)}`, {className: 'quiet'});
    });
    addCopyButton(this.outputs, 'Copy the output', () => result.hypotheses[this.chosen].text);
    this.showHypothesis(0);
  }

  showHypothesis(n) {
    this.chosen = n;
    const one = this.result.hypotheses[n];
    this.view.show(this.result, inThousandths(one),
      n ? differing(one.tokens, this.result.hypotheses[0].tokens) : undefined);
  }

  addForced() {
    const box = add(this.view.section, 'details');
    add(box, 'summary', say('What would it attend to if it had to say another text?'));
    const form = add(box, 'form', undefined, {className: 'forced', autocomplete: 'off'});
    const input = add(form, 'input', undefined, {type: 'text', dir: 'auto'});
    input.setAttribute('aria-label', say('Another output'));
    add(form, 'button', say('Show'), {type: 'submit'});
    this.forced = add(box, 'div');
    form.onsubmit = async event => {
      event.preventDefault();
      if (!input.value.trim() || !this.result.source_tokens.length) return;
      let found;
      try {
        found = await engine.force(this.name, this.result.source, input.value, part('token').value);
      } catch (error) {
        return tellUser(error.message, true);
      }
      const [one] = found.hypotheses;
      this.forced.replaceChildren();
      const view = new Alignment(this.forced, say('Forced output, score %s', one.score.toFixed(3)));
      view.show(found, inThousandths(one), differing(one.tokens, this.result.hypotheses[0].tokens));
    };
  }
}

function inThousandths(one) {
  return {...one, weights: one.alignment && one.alignment.map(row => row.map(weight => Math.round(weight * 1000)))};
}

function tellUser(text, error) {
  part('message').textContent = text;
  part('message').className = error ? 'error' : '';
}

// What a reader must know of the text: words that the model does not know, and more words than it has learned from.
function tellNotices({source_tokens: tokens, unknown}, run) {
  const notices = part('notices');
  const tell = text => [...notices.children].some(item => item.textContent === text) || add(notices, 'li', text);
  if (unknown.length) {
    tell(say('%d of %d words are unknown to the model: %s', unknown.length, tokens.length,
      [...new Set(unknown.map(n => tokens[n]))].slice(0, 20).join(', ')));
  }
  if (tokens.length > run.max_source_length) {
    tell(say('The text has %d words; the model learned from texts of at most %d, so the output may be wrong.',
      tokens.length, run.max_source_length));
  }
}

const chosenRuns = () => about.runs.filter((run, n) => about.runs.length === 1 || part(`run-${n}`).checked);

// Chromium keeps showing boxes for words that it laid out while the font was loading.
async function fontFor(words) { await document.fonts.load('1em Embedded', words).catch(() => {}); }

// The text that the engine takes: one line; for a question, `question | story`. '' where there is none.
function readText() {
  const line = element => element.value.replace(/\s*[\r\n]+\s*/g, ' ').trim();
  const text = line(part('text')), question = line(part('question'));
  return task !== 'answer' || !text ? text : question && `${question} | ${text}`;
}

function writeText(text) {
  const bar = task === 'answer' ? text.indexOf(' | ') : -1;
  part('question').value = bar < 0 ? '' : text.slice(0, bar);
  part('text').value = bar < 0 ? text : text.slice(bar + 3);
}

function showNothing() {
  for (const view of views.values()) view.hide(true);
  part('notices').replaceChildren();
  part('link-part').hidden = part('legend').hidden = true;
  part('hint').hidden = false;
  tellUser('');
  history.replaceState(null, '', location.pathname + location.search);
}

// The address with the text in its fragment, which browsers do not send to any server.
function keepLink(text) {
  const address = '#' + new URLSearchParams({text, beam: part('beam').value});
  part('link').href = address;
  part('link-part').hidden = false;
  history.replaceState(null, '', address);
}

async function send() {
  clearTimeout(timer);
  if (running) running.abort();
  const mine = running = new AbortController(), text = readText();
  if (!text) return showNothing();
  const most = about.limits.characters;
  if (text.length > most) {
    return tellUser(say('The text has %d characters, and the server takes at most %d: shorten it.', text.length, most),
      true);
  }
  const width = Number(part('beam').value), chosen = chosenRuns();
  tellUser(say('Working …'));
  part('hint').hidden = true;
  for (const run of about.runs) if (!chosen.includes(run)) views.get(run.name).hide(true);
  try {
    const notices = await Promise.all(chosen.map(async run => {
      const result = await engine.translate(run.name, text, {beam_width: width, n_best: width}, mine.signal,
        part('token').value);
      await fontFor(result.hypotheses.map(one => one.text).join('') + text);
      if (mine === running) views.get(run.name).show(result);
      return [result, run];
    }));
    if (mine !== running) return;
    part('notices').replaceChildren();
    notices.forEach(pair => tellNotices(...pair));
    part('legend').hidden = !chosen.length;
    keepLink(text);
    tellUser('');
  } catch (error) {
    if (mine !== running || error.name === 'AbortError') return;
    if (error.status === 401) part('token-label').hidden = false;
    tellUser(error.message, true);
  }
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(send, readText() ? WAIT : 0);
}

part('form').onsubmit = event => { event.preventDefault(); send(); };
part('text').oninput = part('question').oninput = later;
part('beam').onchange = send;
part('clear').onclick = () => { writeText(''); showNothing(); part('text').focus(); send(); };
part('text').onkeydown = event => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
};

// Shows the text of the address, if it has one.
function showLinked() {
  const values = new URLSearchParams(location.hash.slice(1)), text = values.get('text');
  if (!text) return false;
  writeText(text);
  if ([...part('beam').options].some(option => option.value === values.get('beam'))) {
    part('beam').value = values.get('beam');
  }
  send();
  return true;
}
window.onhashchange = showLinked;

// The name of a language in the reader's, such as 'German' of 'de'.
const languageName = code => new Intl.DisplayNames([chinese ? 'zh-CN' : 'en'], {type: 'language'}).of(code);

function nameEverything() {
  const [name, textName] = NAMES[task] || NAMES.translate, [run] = about.runs;
  const pair = about.runs.every(one => String(one.languages) === String(run.languages)) && run.languages;
  const [source, target] = pair ? pair.map(languageName) : [];
  const title = pair && source !== target ? say('%s: %s → %s', say(name), source, target) : say(name);
  part('title').textContent = document.title = `${title} (${about.runs.map(one => one.name).join(', ')})`;
  part('text-name').textContent = pair ? say('Text in %s', source).replace('Text', textName) : say(textName);
  addLanguageLink();
  addLegend(part('legend'), ['unknown', ...(about.runs.some(one => one.copy) ? ['copied'] : [])]);
}

function addExamples(examples) {
  part('examples-part').hidden = !examples.length;
  for (const example of examples) {
    add(part('examples'), 'button', example, {type: 'button', title: example, dir: 'auto', onclick: () => {
      writeText(example);
      send();
    }});
  }
}

async function start() {
  const names = [...'德英法中日'].join('语');  // of languages, which the browser has
  await fontFor(chinese ? Object.values(ZH).join('') + names : '中文');
  translatePage();
  about = await engine.start((done, total) => tellUser(say('Loading, %d of %d …', done, total)));
  task = about.runs[0].task;
  part('token-label').hidden = !about.token;
  part('runs').hidden = about.runs.length < 2;
  about.runs.forEach((run, n) => {
    const label = add(part('runs'), 'label');
    add(label, 'input', undefined, {type: 'checkbox', id: `run-${n}`, checked: true, onchange: send});
    label.append(` ${run.name} (${run.attention}, ${run.score})`);
  });
  part('question-label').hidden = task !== 'answer';
  part('text').rows = task === 'translate' ? 2 : 8;
  addCopyButton(part('link-part'), 'Copy link', () => part('link').href);
  nameEverything();
  for (const run of about.runs) views.set(run.name, new RunView(run));
  const examples = about.runs[0].examples || [];
  addExamples(examples);
  if (showLinked()) return;
  if (examples.length && !part('text').value) {
    writeText(examples[0]);
    part('text').select();
  }
  await send();
}
start().catch(error => tellUser(error.message, true));
