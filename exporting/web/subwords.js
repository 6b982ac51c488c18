'use strict';
// Subword tokenisers: a model that sentencepiece trained, applied by the rules of text/subwords.py, which explains them.

const SUBWORD_SPACE = '▁', UNKNOWN_PENALTY = 10;
const bytePiece = value => `<0x${value.toString(16).toUpperCase().padStart(2, '0')}>`;

class SubwordTokenizer {
  // model: the kind on the first line, then a line "piece<TAB>score" for each piece.
  constructor(model, sets) {
    const [kind, ...lines] = model.split('\n');
    this.sets = sets;
    this.scores = new Map(lines.filter(Boolean).map(line => {
      const [piece, score] = line.split('\t');
      return [piece, Number(score)];
    }));
    this.bytes = new Map(Array.from({length: 256}, (_, value) => [bytePiece(value), value]));
    this.longest = 0;
    let lowest = Infinity;
    for (const [piece, score] of this.scores) {
      this.longest = Math.max(this.longest, [...piece].length);
      lowest = Math.min(lowest, score);
    }
    this.unknown = lowest - UNKNOWN_PENALTY;
    this.divide = kind === 'bpe' ? this.merged : this.mostProbable;
  }

  tokenize(text) {
    return this.sets.split(text).flatMap(word => this.divide(this.symbols(word)).flat());
  }

  detokenize(tokens) {
    const decoder = new TextDecoder('utf-8', {ignoreBOM: true}), parts = [];
    let pending = [];
    for (const token of [...tokens, '']) {
      if (this.bytes.has(token)) pending.push(this.bytes.get(token));
      else {
        parts.push(decoder.decode(new Uint8Array(pending)), token.replaceAll(SUBWORD_SPACE, ' '));
        pending = [];
      }
    }
    return this.sets.split(parts.join('')).join(' ');
  }

  // The space mark and the characters of a word; a character without a piece is an array of byte pieces.
  symbols(word) {
    const spelt = character => [...new TextEncoder().encode(character)].map(bytePiece);
    return [this.scores.has(SUBWORD_SPACE) ? SUBWORD_SPACE : spelt(SUBWORD_SPACE), ...[...word].map(
      character => this.scores.has(character) && character !== SUBWORD_SPACE ? character : spelt(character))];
  }

  // Joins the neighbours whose piece has the maximum score, the first of equals, until no two have a piece.
  merged(symbols) {
    for (;;) {
      let best = -1, highest = -Infinity;
      for (let n = 0; n + 1 < symbols.length; n++) {
        if (Array.isArray(symbols[n]) || Array.isArray(symbols[n + 1])) continue;
        const score = this.scores.get(symbols[n] + symbols[n + 1]);
        if (score > highest) [best, highest] = [n, score];
      }
      if (best < 0) return symbols;
      symbols.splice(best, 2, symbols[best] + symbols[best + 1]);
    }
  }

  // The pieces with the maximum sum of scores.
  mostProbable(symbols) {
    const best = [[0, 0]];  // of each prefix: the score, and where its last piece begins
    for (let end = 1; end <= symbols.length; end++) {
      const symbol = symbols[end - 1], spelt = Array.isArray(symbol);
      best.push([best[end - 1][0] + (spelt ? this.unknown : this.scores.get(symbol)), end - 1]);
      let piece = symbol;
      for (let begin = end - 2; begin >= Math.max(0, end - this.longest); begin--) {
        if (spelt || Array.isArray(symbols[begin])) break;
        piece = symbols[begin] + piece;
        const score = this.scores.get(piece);
        if (score !== undefined && best[begin][0] + score > best[end][0]) best[end] = [best[begin][0] + score, begin];
      }
    }
    const pieces = [];
    for (let end = symbols.length; end; end = best[end][1]) {
      const begin = best[end][1];
      pieces.unshift(end - begin === 1 ? symbols[begin] : symbols.slice(begin, end).join(''));
    }
    return pieces;
  }
}
