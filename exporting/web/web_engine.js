'use strict';
// The engine of a folder of `export.py --format web`: the model runs in this page, and no text leaves it.

Object.assign(ZH, {
  'is missing: upload the exported folder again': '不存在，请重新上传导出的文件夹',
  'is not the file that was exported: upload the exported folder again': '与导出时的文件不同，请重新上传导出的文件夹',
  'The text has %d words, and this page takes at most %d: shorten it.': '文本有 %d 个词，本页面最多接受 %d 个，请缩短。',
});

const RUNTIME = 'ort-wasm-simd-threaded.wasm';
const LARGEST_SOURCE = 400;  // tokens; the time of a search grows with their square

class WebEngine {
  // What the page needs to know: see `reports/page_about.py`. progress: takes (done, total).
  async start(progress) {
    const names = ['config.json', 'vocab.source.txt', 'vocab.target.txt', RUNTIME, 'encoder.onnx', 'step.onnx'];
    progress(0, names.length);
    const folder = await Folder.open(), read = {};
    for (const [n, name] of names.entries()) {
      read[name] = await (/\.(json|txt)$/.test(name) ? folder.text(name) : folder.bytes(name));
      progress(n + 1, names.length);
    }
    const config = JSON.parse(read['config.json']), sets = new CharacterSets(config.characters);
    this.settings = config.settings;
    this.search = config.search;
    this.vocabularies = [new Vocabulary(read['vocab.source.txt']), new Vocabulary(read['vocab.target.txt'])];
    this.tokenizers = [];
    for (const side of ['source', 'target']) {
      const file = `tokenizer.${side}.model`;
      this.tokenizers.push(makeTokenizer(config.settings, side, sets,
        folder.has(file) ? await folder.text(file) : undefined));
    }
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = read[RUNTIME];
    const session = name => ort.InferenceSession.create(read[name], {executionProviders: ['wasm']});
    this.model = new Model(await session('encoder.onnx'), await session('step.onnx'), config.settings);
    this.canForce = Boolean(this.tokenizers[1].tokenize);
    if (navigator.serviceWorker) navigator.serviceWorker.register('service_worker.js').catch(() => {});
    return {runs: [config.about], limits: {characters: Infinity}, token: false};
  }

  // {source, source_tokens, unknown, hypotheses}: see POST /translate in docs/serving.md.
  async translate(name, text, given, signal) {
    const options = {...this.search, ...given}, tokens = this.sourceTokens(text);
    const {ids, copies, names} = this.encode(tokens), size = this.vocabularies[1].tokens.length;
    const found = tokens.length ? await searchOutputs(this.model, ids, copies, options, size, signal) : [
      {ids: [], logs: [], weights: [], candidates: [], score: 0, ranking: 0}];
    return {...this.source(text, tokens, ids), hypotheses: found.map(one => this.hypothesis(one, names))};
  }

  // The same for one given output: what the model would attend to if it had to say this.
  async force(name, text, output) {
    const tokens = this.sourceTokens(text), {ids, copies, names} = this.encode(tokens);
    const target = this.tokenizers[1].tokenize(output);
    const one = await forceOutput(this.model, ids, copies, this.vocabularies[1].encode(target, names));
    return {...this.source(text, tokens, ids), hypotheses: [{...this.hypothesis(one, names), text: output, tokens: target}]};
  }

  sourceTokens(text) {
    const {long_sources: kind, max_source_length: longest} = this.settings;
    const tokens = this.tokenizers[0].tokenize(text.toWellFormed ? text.toWellFormed() : text)
      .slice(0, kind === 'truncate' ? longest : undefined);
    const limit = this.settings.score === 'location' ? this.settings.max_source_length : LARGEST_SOURCE;
    if (tokens.length > limit) {
      throw new Error(say('The text has %d words, and this page takes at most %d: shorten it.', tokens.length, limit));
    }
    return tokens;
  }

  encode(tokens) {
    const [source, target] = this.vocabularies, names = this.settings.copy ? target.names(tokens) : [];
    return {ids: source.encode(tokens), copies: target.encode(tokens, names), names};
  }

  source(text, tokens, ids) {
    return {source: text, source_tokens: tokens, unknown: positions(ids, id => id === UNK)};
  }

  hypothesis(one, names) {
    const [, target] = this.vocabularies, ended = one.ids[one.ids.length - 1] === END;
    const ids = ended ? one.ids.slice(0, -1) : one.ids, tokens = target.decode(ids, names);
    return {text: this.tokenizers[1].detokenize(tokens), tokens, score: one.logs.reduce((sum, log) => sum + log, 0),
      ranking: one.ranking, log_probabilities: one.logs, copied: positions(ids, id => id >= target.tokens.length),
      unknown: positions(ids, id => id === UNK), alignment: this.settings.score === 'none' ? null
        : one.weights.slice(0, ids.length).map(row => Array.from(row)),
      candidates: one.candidates.slice(0, ids.length).map(step => step.map(
        ([id, probability]) => [target.decode([id], names)[0], probability]))};
  }
}

const positions = (values, condition) => values.flatMap((value, n) => condition(value) ? [n] : []);
const makeEngine = () => new WebEngine();
