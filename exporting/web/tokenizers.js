'use strict';
// Text to tokens and back: the rules of text/tokenizers.py and text/spacing_marks.py, which explain them. Sets of
// characters come from config.json, where the exporting Python wrote its own, so that both divide a text alike.

// A set of a regular expression, from hexadecimal ranges such as "30-39 5f".
const setOf = ranges => '[' + ranges.split(' ').map(
  range => range.split('-').map(point => `\\u{${point}}`).join('-')).join('') + ']';

class CharacterSets {
  // ranges: {word, digit, space, mark, wide}.
  constructor(ranges) {
    for (const name of Object.keys(ranges)) this[name] = setOf(ranges[name]);
    this.spaces = new RegExp(this.space + '+', 'u');
    this.firstIsWord = new RegExp('^' + this.word, 'u');
    this.firstIsWide = new RegExp('^' + this.wide, 'u');
  }

  // As str.split() of Python.
  split(text) { return text.split(this.spaces).filter(Boolean); }

  isWord(token) { return this.firstIsWord.test(token); }

  isAlphanumeric(token) { return this.isWord(token) && token[0] !== '_'; }
}

class SpaceTokenizer {
  constructor(sets) { this.sets = sets; }

  tokenize(text) { return this.sets.split(text); }

  detokenize(tokens) { return tokens.join(' '); }
}

class CharTokenizer {
  tokenize(text) { return [...text].map(character => ({' ': '▁', '▁': '▁▁'}[character] || character)); }

  detokenize(tokens) { return tokens.map(token => ({'▁': ' ', '▁▁': '▁'}[token] || token)).join(''); }
}

const LEAN_LEFT = new Set('.,!?;:)]}%…”’/"\''), LEAN_RIGHT = new Set('([{“‘„‚¿¡$£#/');
const CLOSED_BY = {'"': '"', "'": "'", '„': '“', '‚': '‘'};

class WordTokenizer {
  constructor(sets, letters = sets.word) {
    const run = `${letters}+(?:${sets.mark}${letters}*){0,999}`;
    const joiner = `(?:['’‐‑-]|(?<=${sets.digit})[.,:](?=${sets.digit}))`;
    this.pattern = new RegExp(`${run}(?:${joiner}${run}){0,99}|(?!${sets.space})[^]${sets.mark}*`, 'gu');
    this.sets = sets;
  }

  tokenize(text) { return text.match(this.pattern) || []; }

  detokenize(tokens) {
    const joined = this.joined(tokens);
    return tokens.map((token, n) => (n && !joined[n - 1] ? ' ' : '') + token).join('');
  }

  // For each token but the last, whether the next one follows without a space.
  joined(tokens) {
    const sides = this.sides(tokens);
    return tokens.slice(1).map((right, n) => (sides[n][1] || sides[n + 1][0] || this.attract(tokens[n], right))
      && this.canJoin(tokens[n], right));
  }

  // <unk> stands for a word.
  canJoin(...tokens) {
    const [left, right] = tokens.map(token => token === '<unk>' ? 'x' : token);
    const found = this.tokenize(left + right);
    return found.length === 2 && found[0] === left && found[1] === right;
  }

  // For each token: [attaches to the token before it, attaches to the token after it].
  sides(tokens) {
    const later = new Map(), awaited = new Set();
    for (const token of tokens) later.set(token, (later.get(token) || 0) + 1);
    return tokens.map(token => {
      later.set(token, later.get(token) - 1);
      if (awaited.delete(token)) return [true, false];
      if (Object.hasOwn(CLOSED_BY, token) && later.get(CLOSED_BY[token])) {
        awaited.add(CLOSED_BY[token]);
        return [false, true];
      }
      return [LEAN_LEFT.has(token), LEAN_RIGHT.has(token)];
    });
  }

  attract(left, right) { return left === right && !this.sets.isAlphanumeric(left); }
}

const BOTH_SCRIPTS = new Set('“”‘’—…·');

class ChineseTokenizer extends WordTokenizer {
  constructor(sets) { super(sets, `(?:(?!${sets.wide})${sets.word})`); }

  attract(left, right) {
    return this.sets.firstIsWide.test(left) || this.sets.firstIsWide.test(right)
      || BOTH_SCRIPTS.has(left) && BOTH_SCRIPTS.has(right) || super.attract(left, right);
  }
}

// Joins words only: jieba's dictionary, which divides a text, is not in the page.
class JiebaTokenizer {
  constructor(sets) { this.characters = new ChineseTokenizer(sets); }

  detokenize(tokens) { return this.characters.detokenize(tokens.flatMap(token => this.pieces(token))); }

  joined(tokens) {
    const pieces = tokens.map(token => this.pieces(token)), joined = this.characters.joined(pieces.flat());
    let end = 0;
    return pieces.slice(0, -1).map(part => joined[(end += part.length) - 1]);
  }

  canJoin(left, right) { return this.characters.canJoin(this.pieces(left).pop(), this.pieces(right)[0]); }

  pieces(token) { return /^[\u4e00-\u9fd5]+$/u.test(token) ? [...token] : [token]; }
}

const JOIN = '‿', SPACE_MARK = '▁', MARKS = [JOIN, SPACE_MARK];

class MarkedToken {
  constructor(text) {
    const characters = [...text], isMark = n => characters.length > 1 && MARKS.includes(characters[n]);
    this.before = isMark(0) ? characters.shift() : '';
    this.after = isMark(characters.length - 1) ? characters.pop() : '';
    this.token = characters.join('');
  }
}

class MarkingTokenizer {
  constructor(unmarked, sets) {
    this.unmarked = unmarked;
    this.sets = sets;
    if (!unmarked.tokenize) this.tokenize = undefined;
  }

  tokenize(text) {
    const tokens = this.unmarked.tokenize(text), marked = tokens.map(token => ['', token, '']);
    const spaces = this.spaces(text, tokens), beginsWithMark = token => MARKS.includes(token[0]);
    this.unmarked.joined(tokens).forEach((joined, n) => {
      const mark = spaces[n] ? SPACE_MARK : JOIN;
      if (beginsWithMark(tokens[n + 1])) marked[n + 1][0] = mark;
      else if (spaces[n] === joined) {
        if (this.sets.isWord(tokens[n + 1]) && !this.sets.isWord(tokens[n])) marked[n][2] = mark;
        else marked[n + 1][0] = mark;
      }
    });
    if (tokens.length && beginsWithMark(tokens[0])) marked[0][0] = SPACE_MARK;
    return marked.map(parts => parts.join(''));
  }

  // Whether the text has white space between each token and the next one.
  spaces(text, tokens) {
    const rest = this.sets.split(text).map(chunk => chunk.length).reverse();
    return tokens.map(token => {
      rest[rest.length - 1] -= token.length;
      return !rest[rest.length - 1] && Boolean(rest.pop() + 1);
    }).slice(0, -1);
  }

  detokenize(texts) {
    const marked = texts.map(text => new MarkedToken(text)), tokens = marked.map(one => one.token);
    const joined = this.unmarked.joined(tokens);
    return tokens.map((token, n) => {
      if (!n) return token;
      const mark = marked[n].before || marked[n - 1].after;
      const together = mark ? mark === JOIN && this.unmarked.canJoin(tokens[n - 1], token) : joined[n - 1];
      return (together ? '' : ' ') + token;
    }).join('');
  }
}

// The tokeniser of a side, 'source' or 'target'. model: text of its subword model, where it has one.
function makeTokenizer(settings, side, sets, model) {
  const name = settings[`${side}_tokenizer`];
  if (model !== undefined) return new SubwordTokenizer(model, sets);
  const kinds = {space: SpaceTokenizer, word: WordTokenizer, char: CharTokenizer, chinese: ChineseTokenizer,
    jieba: JiebaTokenizer};
  const tokenizer = new kinds[name](sets);
  const marks = side === 'target' && settings.spacing_marks && ['word', 'chinese', 'jieba'].includes(name);
  return marks ? new MarkingTokenizer(tokenizer, sets) : tokenizer;
}
