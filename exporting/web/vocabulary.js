'use strict';
// Tokens and their ids, as text/vocabulary.py.

const PAD = 0, UNK = 1, START = 2, END = 3;

class Vocabulary {
  // text: one token a line, the order is the id.
  constructor(text) {
    this.tokens = text.slice(0, -1).split('\n');
    this.index = new Map(this.tokens.map((token, id) => [token, id]));
  }

  id(token) {
    const id = this.index.get(token);
    return id === undefined ? UNK : id;
  }

  // Ids of tokens; `names`, tokens without an id here, get the ids from the size of the vocabulary on.
  encode(tokens, names = []) {
    const extra = new Map(names.map((name, n) => [name, this.tokens.length + n]));
    return tokens.map(token => this.id(token) > END ? this.id(token) : extra.get(token) || UNK);
  }

  // The distinct tokens of a source that have no id here: an output may copy them.
  names(tokens) { return [...new Set(tokens)].filter(token => this.id(token) <= END); }

  decode(ids, names = []) {
    const size = this.tokens.length;
    return ids.map(id => id < size ? this.tokens[id] : names[id - size]);
  }
}
