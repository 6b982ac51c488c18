'use strict';
// An alignment as a file: CSV, SVG and PNG. An alignment is {sources (S), tokens (T), weights (T, S) in thousandths}.

Object.assign(ZH, {'output \\ source': '输出 \\ 输入', 'Copied.': '已复制。', 'Copy': '复制'});

// A table as RFC 4180 has it: the source tokens in the first row, then a row for each output token.
function alignmentCsv({sources, tokens, weights}) {
  const quote = value => /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  const rows = [['output \\ source', ...sources],
    ...tokens.map((token, t) => [token, ...weights[t].map(weight => (weight / 1000).toFixed(3))])];
  return rows.map(row => row.map(quote).join(',') + '\r\n').join('');
}

const CELL = 26, FONT_SIZE = 15, PAD_LABEL = 8;
const INK = '#1b1b1b', GRID = '#d4d4d4', HEAT = [8, 69, 148];
const FONTS = 'system-ui, "Noto Sans SC", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", Embedded, sans-serif';

// Draws with rect(x, y, width, height, fill, stroke) and text(x, y, text, anchor, turned) of a surface, which
// `makeSurface(width, height)` makes. Returns the surface.
function drawAlignment({sources, tokens, weights}, makeSurface) {
  const pen = document.createElement('canvas').getContext('2d');
  pen.font = `${FONT_SIZE}px ${FONTS}`;
  const upright = sources.every(token => [...token].length < 2);
  const widest = words => Math.ceil(Math.max(0, ...words.map(word => pen.measureText(word).width)));
  const left = widest(tokens) + 2 * PAD_LABEL, top = (upright ? FONT_SIZE : widest(sources)) + 2 * PAD_LABEL;
  const surface = makeSurface(left + CELL * sources.length + PAD_LABEL, top + CELL * tokens.length + PAD_LABEL);
  sources.forEach((token, s) => surface.text(left + CELL * (s + 0.5), top - PAD_LABEL, token,
    upright ? 'middle' : 'start', !upright));
  tokens.forEach((token, t) => {
    surface.text(left - PAD_LABEL, top + CELL * (t + 0.5) + FONT_SIZE / 3, token, 'end', false);
    weights[t].forEach((weight, s) => {
      const part = weight / 1000, colour = HEAT.map(value => Math.round(255 - part * (255 - value)));
      surface.rect(left + CELL * s, top + CELL * t, CELL, CELL, `rgb(${colour.join(', ')})`, GRID);
    });
  });
  return surface;
}

class SvgSurface {
  constructor(width, height) {
    const space = 'http://www.w3.org/2000/svg';
    this.document = document.implementation.createDocument(space, 'svg');
    this.make = (tag, values, text) => {
      const element = tag === 'svg' ? this.document.documentElement : this.document.createElementNS(space, tag);
      for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
      // XML has no control characters.
      if (text !== undefined) element.textContent = text.replace(/[\p{Cc}\p{Cs}\ufffe\uffff]/gu, '□');
      if (tag !== 'svg') this.document.documentElement.append(element);
    };
    this.make('svg', {viewBox: `0 0 ${width} ${height}`, width, height, 'font-family': FONTS, 'font-size': FONT_SIZE});
    this.rect(0, 0, width, height, '#ffffff', 'none');
  }

  rect(x, y, width, height, fill, stroke) { this.make('rect', {x, y, width, height, fill, stroke}); }

  text(x, y, text, anchor, turned) {
    const place = turned ? {transform: `translate(${x + FONT_SIZE / 3} ${y}) rotate(-90)`} : {x, y};
    this.make('text', {...place, 'text-anchor': anchor, fill: INK}, text);
  }

  blob() { return new Blob([new XMLSerializer().serializeToString(this.document)], {type: 'image/svg+xml'}); }
}

class CanvasSurface {
  constructor(width, height) {
    this.canvas = Object.assign(document.createElement('canvas'), {width: 2 * width, height: 2 * height});
    this.pen = this.canvas.getContext('2d');
    this.pen.scale(2, 2);
    this.pen.font = `${FONT_SIZE}px ${FONTS}`;
    this.rect(0, 0, width, height, '#ffffff', 'none');
  }

  rect(x, y, width, height, fill, stroke) {
    this.pen.fillStyle = fill;
    this.pen.fillRect(x, y, width, height);
    this.pen.strokeStyle = stroke;
    if (stroke !== 'none') this.pen.strokeRect(x, y, width, height);
  }

  text(x, y, text, anchor, turned) {
    this.pen.save();
    this.pen.fillStyle = INK;
    this.pen.textAlign = anchor === 'middle' ? 'center' : anchor;
    this.pen.translate(turned ? x + FONT_SIZE / 3 : x, y);
    if (turned) this.pen.rotate(-Math.PI / 2);
    this.pen.fillText(text, 0, 0);
    this.pen.restore();
  }

  blob() { return new Promise(resolve => this.canvas.toBlob(resolve, 'image/png')); }
}

// The bytes of each kind of file. The byte order mark lets spreadsheets read the CSV as UTF-8.
const ALIGNMENT_FILES = {
  png: data => drawAlignment(data, (...size) => new CanvasSurface(...size)).blob(),
  svg: data => drawAlignment(data, (...size) => new SvgSurface(...size)).blob(),
  csv: data => new Blob(['\ufeff', alignmentCsv(data)], {type: 'text/csv'}),
};

async function downloadAlignment(kind, data) {
  const address = URL.createObjectURL(await ALIGNMENT_FILES[kind](data));
  Object.assign(document.createElement('a'), {href: address, download: `alignment.${kind}`}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// Browsers offer the clipboard over https and on this machine alone; elsewhere an invisible field is copied.
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const now = document.activeElement, field = add(document.body, 'textarea', text, {className: 'hidden-label'});
  field.select();
  document.execCommand('copy');
  field.remove();
  if (now) now.focus();
}

// A button that copies what `read` returns, and says so.
function addCopyButton(parent, name, read) {
  const button = add(parent, 'button', say(name), {type: 'button', className: 'copy'});
  const told = add(parent, 'span', '', {className: 'quiet'});
  told.setAttribute('role', 'status');
  button.onclick = async () => {
    await copyText(read());
    told.textContent = ' ' + say('Copied.');
    setTimeout(() => { told.textContent = ''; }, 2000);
  };
  return button;
}
