// What a terminal would show of a command's output: lines of coloured text, from the characters as they came.
//
// It knows carriage return, backspace, tab, the cursor's ways on the screen's last lines, erasing, and colours. What
// else there may be in escape sequences (titles, links, modes, the clipboard) is swallowed, for none of it is text.

const TAB = 8;
const REACH = 500; // lines that the cursor can go back up
const LONGEST_ESCAPE = 4096; // an escape sequence that goes on for longer is none
const WIDEST = 100_000; // columns the cursor can be sent to
const LONGEST_LINE = 200_000; // characters, before it is broken
const MOST_LINES = 200_000;
const MOST_CHARACTERS = 64 * 1024 * 1024; // kept, roughly

const PLAIN = Object.freeze({});

/** A line is a list of runs {text, style}; a style has any of fg, bg (0 to 255 or '#rrggbb'), bold, dim, … */
export class Screen {
  constructor() {
    this.lines = [[]];
    this.dropped = 0; // lines that are no longer kept, before the first
    this._watches = new Set();
    this._size = 0; // characters written since the lines that are kept began, roughly
    this._row = 0;
    this._column = 0;
    this._style = PLAIN;
    this._rest = ''; // the beginning of an escape sequence whose end has not come yet
  }

  write(chunk) {
    const text = this._rest + chunk;
    this._rest = '';
    TOKEN.lastIndex = 0;
    while (TOKEN.lastIndex < text.length) {
      const start = TOKEN.lastIndex;
      const match = TOKEN.exec(text);
      if (match === null) {
        this._keep(text.slice(start)); // a failed match sets lastIndex to 0, so this must be the end
        break;
      }
      this._take(match);
    }
    this._trim();
  }

  /** Whoever follows the lines: `settle()` says which is the first that has changed since the last time. */
  watch() {
    const watch = { from: 0 };
    this._watches.add(watch);
    return {
      settle: () => {
        const { from } = watch;
        watch.from = this.lines.length;
        return from;
      },
      close: () => this._watches.delete(watch),
    };
  }

  _keep(rest) {
    if (rest.length <= LONGEST_ESCAPE) this._rest = rest;
    else this._put(rest.replace(/[\x00-\x1f\x7f-\x9f]/g, ''));
  }

  _take({ groups: { text, control, parameters, final } }) {
    if (text !== undefined) this._put(text);
    else if (control !== undefined) controls[control]?.(this);
    else if (final !== undefined) this._obey(final, parameters);
  }

  _obey(final, parameters) {
    if (/[^0-9;:]/.test(parameters)) return; // private sequences
    const numbers = parameters.split(/[;:]/).map((each) => (each === '' ? null : Math.min(Number(each), WIDEST)));
    sequences[final]?.(this, numbers, numbers[0] ?? 1);
  }

  _put(text) {
    for (let start = 0; start < text.length; ) {
      if (this._column >= LONGEST_LINE) this._newline();
      const part = text.slice(start, start + LONGEST_LINE - this._column);
      this.lines[this._row] = overwritten(this.lines[this._row], this._column, part, this._style);
      this._column += part.length;
      start += part.length;
      this._touch(this._row);
    }
    this._size += text.length;
  }

  _newline() {
    this._row += 1;
    this._column = 0;
    if (this._row === this.lines.length) this.lines.push([]);
    this._touch(this._row);
  }

  _up(count) {
    this._row = Math.max(0, this.lines.length - REACH, this._row - count);
  }

  _down(count) {
    const wanted = Math.min(this._row + count, this._row + REACH);
    while (this.lines.length <= wanted) this.lines.push([]);
    this._row = wanted;
  }

  _to(column) {
    this._column = Math.max(0, Math.min(WIDEST, column));
  }

  _eraseLine(how) {
    const line = this.lines[this._row];
    if (how === 0) this.lines[this._row] = cut(line, 0, this._column);
    if (how === 1) this.lines[this._row] = overwritten(line, 0, ' '.repeat(this._column + 1), PLAIN);
    if (how === 2) this.lines[this._row] = [];
    this._touch(this._row);
  }

  _eraseBelow() {
    this._eraseLine(0);
    this.lines.length = this._row + 1;
  }

  _touch(row) {
    for (const watch of this._watches) watch.from = Math.min(watch.from, row);
  }

  _trim() {
    const isLong = this.lines.length > 1.1 * MOST_LINES;
    if (!isLong && this._size < 1.25 * MOST_CHARACTERS) return; // seldom, for it moves all the others
    const excess = Math.min(this._row, isLong ? this.lines.length - MOST_LINES : this._linesPast(MOST_CHARACTERS));
    this.lines.splice(0, excess);
    this.dropped += excess;
    this._row -= excess;
    this._size = this.lines.reduce((sum, line) => sum + lengthOf(line), 0);
    this._touch(0);
  }

  /** How many lines at the beginning are past the last `size` characters. */
  _linesPast(size) {
    let at = this.lines.length;
    for (let left = size; at > 0 && left > 0; left -= lengthOf(this.lines[at])) at -= 1;
    return at;
  }
}

const TOKEN = new RegExp(
  [
    '(?<text>[^\\x00-\\x1f\\x7f-\\x9f]+)',
    '\\x1b\\[(?<parameters>[\\x30-\\x3f]*)[\\x20-\\x2f]*(?<final>[\\x40-\\x7e])', // CSI
    '\\x1b[\\]PX^_][^\\x07\\x1b]*(?:\\x07|\\x1b\\\\)', // OSC, DCS and their like, to their end
    '\\x1b[\\]PX^_][^\\x07\\x1b]*\\x1b(?=[^\\\\])', // broken off by another escape
    '\\x1b\\[[\\x30-\\x3f]*[\\x20-\\x2f]*(?=[^\\x20-\\x7e])', // broken off by what cannot stand there
    '\\x1b[\\x20-\\x2f]+[\\x30-\\x7e]',
    '\\x1b[\\x30-\\x4f\\x51-\\x57\\x59\\x5a\\x5c\\x60-\\x7e]',
    '\\x1b(?=[\\x00-\\x1f\\x7f-\\uffff])',
    '(?<control>[\\x00-\\x1a\\x1c-\\x1f\\x7f-\\x9f])',
  ].join('|'),
  'y',
);

const controls = {
  '\n': (screen) => screen._newline(),
  '\r': (screen) => screen._to(0),
  '\b': (screen) => screen._to(screen._column - 1),
  '\t': (screen) => screen._to((Math.floor(screen._column / TAB) + 1) * TAB),
};

const sequences = {
  A: (screen, _numbers, count) => screen._up(count),
  B: (screen, _numbers, count) => screen._down(count),
  C: (screen, _numbers, count) => screen._to(screen._column + count),
  D: (screen, _numbers, count) => screen._to(screen._column - count),
  E: (screen, _numbers, count) => (screen._down(count), screen._to(0)),
  F: (screen, _numbers, count) => (screen._up(count), screen._to(0)),
  G: (screen, _numbers, count) => screen._to(count - 1),
  J: (screen, [how]) => (how ?? 0) === 0 && screen._eraseBelow(),
  K: (screen, [how]) => screen._eraseLine(how ?? 0),
  m: (screen, numbers) => (screen._style = styled(screen._style, numbers)),
};

const FLAGS = { 1: 'bold', 2: 'dim', 3: 'italic', 4: 'underline', 7: 'inverse', 9: 'strike' };
const UNFLAGS = { 22: ['bold', 'dim'], 23: ['italic'], 24: ['underline'], 27: ['inverse'], 29: ['strike'] };

/** `style` after the numbers of an SGR sequence. */
function styled(style, numbers) {
  let next = { ...style };
  for (let at = 0; at < numbers.length; at += 1) {
    const number = numbers[at] ?? 0;
    if (number === 0) next = {};
    else if (FLAGS[number]) next[FLAGS[number]] = true;
    else if (UNFLAGS[number]) for (const flag of UNFLAGS[number]) delete next[flag];
    else if (number === 38 || number === 48) {
      const [colour, taken] = longColour(numbers.slice(at + 1));
      if (colour !== undefined) next[number === 38 ? 'fg' : 'bg'] = colour;
      at += taken;
    } else Object.assign(next, shortColour(number));
    if (number === 39) delete next.fg;
    if (number === 49) delete next.bg;
  }
  return next;
}

function shortColour(number) {
  if (number >= 30 && number <= 37) return { fg: number - 30 };
  if (number >= 40 && number <= 47) return { bg: number - 40 };
  if (number >= 90 && number <= 97) return { fg: number - 82 };
  if (number >= 100 && number <= 107) return { bg: number - 92 };
  return {};
}

/** The colour of `5;n` or `2;r;g;b`, and how many numbers that took. */
function longColour([kind, ...rest]) {
  if (kind === 5) return [Math.min(rest[0] ?? 0, 255), 2];
  if (kind !== 2) return [undefined, 1];
  const parts = [0, 1, 2].map((at) => Math.min(rest[at] ?? 0, 255).toString(16).padStart(2, '0'));
  return [`#${parts.join('')}`, 4];
}

/** `line` with `text` written over it from `column` on; what lies beyond its end is filled with spaces. */
function overwritten(line, column, text, style) {
  const length = lengthOf(line);
  if (column === length) return joined(line, { text, style });
  const before = cut(line, 0, column);
  const gap = column > length ? [{ text: ' '.repeat(column - length), style: PLAIN }] : [];
  return [...before, ...gap, { text, style }, ...cut(line, column + text.length, Infinity)];
}

/** Appends in place: output that just flows must not cost its line's length for each piece. */
function joined(line, run) {
  const last = line.at(-1);
  if (last?.style === run.style) last.text += run.text;
  else line.push(run);
  return line;
}

/** The part of `line` in columns [start, end). */
export function cut(line, start, end) {
  const kept = [];
  let at = 0;
  for (const { text, style } of line) {
    const part = text.slice(Math.max(0, start - at), Math.max(0, end - at));
    if (part) kept.push({ text: part, style });
    at += text.length;
  }
  return kept;
}

export function lengthOf(line) {
  let length = 0;
  for (const { text } of line) length += text.length;
  return length;
}

export function textOf(line) {
  return line.map(({ text }) => text).join('');
}
