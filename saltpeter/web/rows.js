// The lines of a screen as rows of a window, and what is found in them. Each costs what has changed. Nothing here draws.

import { cut, lengthOf, textOf } from './terminal.js';

/** The rows of the screen's lines when each has at most `columns` characters: {count, at(index)}. */
export class RowIndex {
  constructor(screen, columns) {
    this._screen = screen;
    this._columns = columns;
    this._watch = screen.watch();
    this._ends = []; // of each line: the number of rows up to its end
    this._length = 0;
    this.count = 0;
  }

  /** Catch up with the screen: costs what has changed. */
  update() {
    const { lines } = this._screen;
    const from = Math.min(this._watch.settle(), this._length);
    let end = from > 0 ? this._ends[from - 1] : 0;
    for (let at = from; at < lines.length; at += 1) {
      end += this._columns === Infinity ? 1 : Math.max(1, Math.ceil(lengthOf(lines[at]) / this._columns));
      this._ends[at] = end;
    }
    this._length = this._ends.length = lines.length;
    const isFresh = lines.at(-1).length === 0; // nothing has been written behind the last newline
    this.count = isFresh ? end - 1 : end;
  }

  /** {line, start, runs}: which line the row is of, from which character on, and its text. */
  at(index) {
    this.update(); // the screen may have let go of lines since the rows were counted
    if (index >= this.count) return { line: -1, start: 0, runs: [] };
    const line = this._lineOf(index);
    if (this._columns === Infinity) return { line, start: 0, runs: this._screen.lines[line] };
    const start = (index - this._first(line)) * this._columns;
    return { line, start, runs: cut(this._screen.lines[line], start, start + this._columns) };
  }

  /** The row that the character is in. */
  rowOf(line, character) {
    return this._first(line) + (this._columns === Infinity ? 0 : Math.floor(character / this._columns));
  }

  close() {
    this._watch.close();
  }

  _first(line) {
    return line > 0 ? this._ends[line - 1] : 0;
  }

  _lineOf(row) {
    let [low, high] = [0, this._length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this._ends[middle] > row) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

export const MOST_HITS = 10_000;
const AT_ONCE = 20_000; // lines looked through before the page gets its turn

/** Where `query` stands in the screen's lines, whatever its case: `hits` are {line, start, end}, in order. */
export class Finder {
  constructor(screen, query) {
    this._screen = screen;
    this._pattern = new RegExp(query.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'), 'gi');
    this._watch = screen.watch();
    this._next = 0; // the first line that has not been looked through
    this.hits = [];
  }

  /** Look through what is new, or some of it; whether that was all. */
  update() {
    this._forget();
    const { lines } = this._screen;
    const end = Math.min(lines.length, this._next + AT_ONCE);
    for (; this._next < end && this.hits.length < MOST_HITS; this._next += 1) {
      for (const { 0: found, index } of textOf(lines[this._next]).matchAll(this._pattern)) {
        this.hits.push({ line: this._next, start: index, end: index + found.length });
      }
    }
    return this._next >= lines.length || this.hits.length >= MOST_HITS;
  }

  /** The hits in one line. */
  inLine(line) {
    let [low, high] = [0, this.hits.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.hits[middle].line < line) low = middle + 1;
      else high = middle;
    }
    const found = [];
    for (let at = low; at < this.hits.length && this.hits[at].line === line; at += 1) found.push(this.hits[at]);
    return found;
  }

  close() {
    this._watch.close();
  }

  /** What has changed since is looked through anew. */
  _forget() {
    const from = this._watch.settle();
    if (from >= this._next) return;
    this._next = from;
    while (this.hits.length && this.hits.at(-1).line >= from) this.hits.pop();
  }
}

/** `runs` of a row that begins at the line's character `start`, cut up so that each hit is a run of its own with `mark`
    set: 'hit', or 'current' for the one that is looked at. */
export function marked(runs, start, hits, current) {
  const parts = [];
  let at = start;
  for (const { text, style } of runs) {
    const end = at + text.length;
    let done = at;
    for (const hit of hits) {
      const [from, to] = [Math.max(hit.start, at), Math.min(hit.end, end)];
      if (from >= to) continue;
      if (from > done) parts.push({ text: text.slice(done - at, from - at), style });
      parts.push({ text: text.slice(from - at, to - at), style, mark: hit === current ? 'current' : 'hit' });
      done = to;
    }
    if (done < end) parts.push({ text: text.slice(done - at), style });
    at = end;
  }
  return parts;
}
