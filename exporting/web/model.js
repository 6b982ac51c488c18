'use strict';
// The two ONNX graphs, for one sentence: exporting/onnx_graph.py lists their inputs and outputs. Letters in shapes:
// K hypotheses, S source length, V vocabulary, X names that an output may copy.

const int64 = (values, shape) => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), shape);
const float32 = (values, shape) => new ort.Tensor('float32', Float32Array.from(values), shape);
const TINY = 1e-37;  // the minimum attention to a word of the source when it is copied

class Model {
  // encoder, step: `ort.InferenceSession`; settings: those of the run.
  constructor(encoder, step, settings) {
    Object.assign(this, {encoder, step, settings});
    this.stateNames = step.inputNames.filter(name => name.startsWith('state_'));
    this.choices = ['weights', 'switch'].filter(name => step.outputNames.includes(name));
  }

  // ids (S): {look, states}: what each step reads of the source, and the states of the first one, by name.
  async encode(ids) {
    const encoded = await this.encoder.run({source: int64(ids, [1, ids.length])});
    const of = names => Object.fromEntries(names.filter(name => this.step.inputNames.includes(name)).map(
      name => [name, encoded[name]]));
    const states = of(this.stateNames);
    if (this.step.inputNames.includes('attentional')) {
      states.attentional = float32(new Float32Array(this.settings.units), [1, 1, this.settings.units]);
    }
    return {look: of(['memory', 'keys', 'mask']), states};
  }

  // One step for K hypotheses. tokens: their last ids; copies: ids (S) that copying the source writes; count: of the
  // best tokens. Returns {weights (K rows of S), states, normaliser (K)} and either logits (K rows), where `whole`, or
  // values and ids of the best tokens (K rows).
  async advance(tokens, time, {look, states}, copies, count, whole) {
    const width = tokens.length, names = Object.keys(states);
    const wanted = ['normaliser', ...(whole ? ['logits'] : ['top_values', 'top_ids']), ...this.choices,
      ...names.map(name => `new_${name}`)];
    const feeds = {...look, ...states, tokens: int64(tokens, [1, width]), time: float32([time], [1]),
      count: int64([count], [1])};
    const taken = Object.fromEntries(Object.entries(feeds).filter(([name]) => this.step.inputNames.includes(name)));
    const found = await this.step.run(taken, wanted);
    const rows = name => {
      const {data} = found[name], size = data.length / width;
      return tokens.map((_, k) => data.subarray(k * size, (k + 1) * size));
    };
    const result = {normaliser: found.normaliser.data,
      states: Object.fromEntries(names.map(name => [name, found[`new_${name}`]])),
      weights: found.weights ? rows('weights') : tokens.map(() => new Float32Array(copies.length))};
    if (!whole) return {...result, values: rows('top_values'), ids: rows('top_ids').map(row => Array.from(row, Number))};
    result.logits = rows('logits');
    if (this.settings.copy) {
      result.logits = result.logits.map((logits, k) => mixture(
        logits, result.normaliser[k], found.switch.data[k], result.weights[k], copies));
      result.normaliser = result.logits.map(logSumExp);
    }
    return result;
  }
}

const logSumExp = values => Math.fround(Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0)));

// See et al. (2017), eq. 9, as logarithms (V + X): p_gen P_vocab + (1 - p_gen) attention to the word.
function mixture(logits, normaliser, gate, weights, copies) {
  const size = Math.max(logits.length, ...copies.map(id => id + 1)), copied = new Float32Array(size);
  const there = new Uint8Array(size), sigmoid = x => Math.fround(1 / (1 + Math.exp(-x)));
  copies.forEach((id, s) => {
    copied[id] += weights[s];
    there[id] = 1;
  });
  const [own, copy] = [there.includes(1) ? sigmoid(gate) : 1, sigmoid(-gate)];
  return Float32Array.from({length: size}, (_, id) => {
    const generated = id < logits.length ? Math.exp(Math.fround(logits[id] - normaliser)) : 0;
    return Math.log(Math.fround(own * Math.fround(generated))
      + (there[id] ? Math.fround(copy * Math.max(copied[id], TINY)) : 0));
  });
}

// Rows `kept` of each state (1, K, D): (1, number of rows, D).
function gatherStates(states, kept) {
  return Object.fromEntries(Object.entries(states).map(([name, {data, dims: [, , size]}]) => {
    const rows = new Float32Array(kept.length * size);
    kept.forEach((k, n) => rows.set(data.subarray(k * size, (k + 1) * size), n * size));
    return [name, new ort.Tensor('float32', rows, [1, kept.length, size])];
  }));
}
