'use strict';
// Greedy and beam search for one sentence, by the rules of beam_search.py, and forced decoding of a given output.
// A hypothesis is {ids, logs, weights, candidates, score}: an entry for each token, and log p.

const CANDIDATES = 5;  // tokens that are shown for each step

// ((5 + L) / 6)^alpha, eq. 14 of Wu et al. (2016); or L for the penalty 'average'.
const lengthDivisor = (length, penalty) => penalty === 'average' ? length : ((5 + length) / 6) ** penalty;

// The maximum number of tokens of an output, `</s>` included, for a source of this length.
function lengthLimit(length, options) {
  const limits = [];
  if (options.max_length) limits.push(options.max_length);
  if (options.max_length_ratio) limits.push(Math.max(1, Math.floor(options.max_length_ratio * length + 1e-6)));
  let limit = limits.length ? Math.min(...limits) : 2 * length + 10;
  if (options.min_length) limit = Math.max(limit, options.min_length + 1);  // one more token for `</s>`
  return options.max_length ? Math.min(limit, options.max_length) : limit;
}

// Ids that would complete an n-gram which `ids` already has.
function repeatedTokens(ids, n) {
  const found = new Set(), last = ids.length - n + 1;
  for (let i = 0; i + n <= ids.length; i++) {
    let same = true;
    for (let j = 0; j < n - 1; j++) same = same && ids[i + j] === ids[last + j];
    if (same) found.add(ids[i + n - 1]);
  }
  return found;
}

// The `count` best of `values` as [value, id], the first of equals first; `excluded(id)` leaves tokens out.
function bestOf(values, ids, count, excluded) {
  const best = [];
  for (let n = 0; n < values.length; n++) {
    const value = values[n], full = best.length === count;
    if (full && value <= best[count - 1][0] || value === -Infinity || excluded(ids ? ids[n] : n)) continue;
    let place = best.length;
    while (place && best[place - 1][0] < value) place--;
    best.splice(place, 0, [value, ids ? ids[n] : n]);
    if (full) best.pop();
  }
  return best;
}

// The allowed candidates of each hypothesis at one step: rows of [logit, id].
function allowedTokens(found, live, time, options, count) {
  return live.map(({ids}, k) => {
    const repeated = options.no_repeat_ngram ? repeatedTokens(ids, options.no_repeat_ngram) : new Set();
    const excluded = id => id === PAD || id === START || id === END && time < options.min_length || repeated.has(id);
    const values = found.logits ? found.logits[k] : found.values[k];
    const best = bestOf(values, found.logits ? null : found.ids[k], count, excluded);
    // No token is allowed: the sentence ends.
    return best.length || !found.logits ? best : [[found.logits[k][END], END]];
  });
}

// log p(Y) / lp(Y) + beta sum_s log(min(sum_t a_ts, 1)) over the tokens of the source.
function ranking(one, options) {
  const value = one.score / lengthDivisor(one.ids.length, options.length_penalty);
  if (!options.coverage_penalty) return value;
  const covered = Array.from(one.weights[0], (_, s) => one.weights.reduce((sum, row) => sum + row[s], 0));
  const logarithms = covered.map(sum => Math.log(Math.min(1, Math.max(1e-7, sum))));
  return value + options.coverage_penalty * logarithms.reduce((sum, x) => sum + x, 0);
}

const probabilities = (best, normaliser) =>
  best.slice(0, CANDIDATES).map(([value, id]) => [id, Math.exp(value - normaliser)]);

// The best hypotheses [{..., ranking}], best first. source, copies: ids (S); size: V; signal: an `AbortSignal`.
async function searchOutputs(model, source, copies, options, size, signal) {
  const width = options.beam_width, limit = lengthLimit(source.length, options);
  const whole = Boolean(model.settings.copy || options.no_repeat_ngram);
  const wanted = Math.max(width, 2), listed = Math.min(Math.max(wanted, CANDIDATES) + 3, size);
  let {look, states} = await model.encode(source), finished = [];
  let live = [{ids: [], logs: [], weights: [], candidates: [], score: 0}];
  for (let time = 0; live.length; time++) {
    const tokens = live.map(one => one.ids.length ? one.ids[one.ids.length - 1] : START);
    const found = await model.advance(tokens, time, {look, states}, copies, listed, whole);
    if (signal) signal.throwIfAborted();
    // Expand: the best continuations of all hypotheses compete; a finished hypothesis keeps its place in the beam.
    const expanded = [];
    const allowed = allowedTokens(found, live, time, options, Math.max(wanted, CANDIDATES));
    allowed.forEach((best, k) => best.slice(0, wanted).forEach(([value, id]) => {
      const log = Math.fround(value - found.normaliser[k]);
      expanded.push({k, id, log, score: live[k].score + log});
    }));
    expanded.sort((a, b) => b.score - a.score);
    const old = live, parents = [];
    live = [];
    for (const {k, id, log, score} of expanded.slice(0, width - finished.length)) {
      const one = {ids: [...old[k].ids, id], logs: [...old[k].logs, log], weights: [...old[k].weights, found.weights[k]],
        candidates: [...old[k].candidates, probabilities(allowed[k], found.normaliser[k])], score};
      if (id === END || time + 1 >= limit) finished.push({...one, ranking: ranking(one, options)});
      else {
        live.push(one);
        parents.push(k);
      }
    }
    finished.sort((a, b) => b.ranking - a.ranking);
    // Stop early: log p over the largest divisor is the most that a live hypothesis can reach.
    const hope = Math.max(...live.map(one => one.score)) / lengthDivisor(limit, options.length_penalty);
    if (finished.length >= options.n_best && finished[options.n_best - 1].ranking >= hope) break;
    if (live.length) states = gatherStates(found.states, parents);
  }
  return finished.slice(0, options.n_best);
}

// The hypothesis of given ids, `</s>` added.
async function forceOutput(model, source, copies, ids) {
  let {look, states} = await model.encode(source), last = START;
  const one = {ids: [...ids, END], logs: [], weights: [], candidates: [], score: 0};
  for (const [time, id] of one.ids.entries()) {
    const found = await model.advance([last], time, {look, states}, copies, 1, true);
    const [logits, normaliser] = [found.logits[0], found.normaliser[0]];
    one.logs.push(Math.fround(logits[id] - normaliser));
    one.score += one.logs[time];
    one.weights.push(found.weights[0]);
    one.candidates.push(probabilities(bestOf(logits, null, CANDIDATES, n => n === PAD || n === START), normaliser));
    states = found.states;
    last = id;
  }
  return {...one, ranking: one.score};
}
