// The output of one machine in one run, as a terminal would show it. Only the rows in sight exist.

import { useKeys } from './keys.js';
import { Failure } from './parts.js';
import { ask, listen, prefer, preference, useSession } from './session.js';
import { cut, lengthOf, Screen } from './terminal.js';
import { html, useEffect, useMemo, useRef, useState } from './ui.js';
import { Windowed } from './windowed.js';

const ROW = 18;
const DRAW_MS = 40; // output that comes faster than this is drawn together

/** The output as it has come so far, for as long as somebody looks at it. No gaps and no repeats, whatever breaks. */
class Feed {
  constructor({ job, run, machine }, onChange) {
    Object.assign(this, { job, run, machine });
    this._onChange = onChange;
    this.forget();
  }

  forget() {
    this.screen = new Screen();
    this.position = 0; // UTF-16 code units, as the daemon counts them
    this.complete = false;
  }

  /** Begin, or go on after the connection was lost. */
  async subscribe() {
    const { job: cron, run: job_instance, machine, position } = this;
    this.error = await ask('subscribe', { cron, job_instance, machine, position }).then(() => null, (error) => error);
    this._onChange();
  }

  take({ type, instance, machine, chunk, position, is_complete }) {
    if (type !== 'output_chunk' || instance !== this.run || machine !== this.machine) return;
    if (position > this.position) return void this.subscribe(); // something was lost: from where we are
    if (position === 0 && this.position > 0) this.forget(); // the daemon has begun again
    const fresh = chunk.slice(this.position - position);
    this.position += fresh.length;
    this.complete = is_complete;
    this.screen.write(fresh);
    this._onChange();
  }
}

function useFeed(job, run, machine) {
  const [, touch] = useState(0);
  const timer = useRef(0);
  const draw = () => {
    timer.current ||= setTimeout(() => {
      timer.current = 0;
      touch((count) => count + 1);
    }, DRAW_MS);
  };
  const feed = useMemo(() => new Feed({ job, run, machine }, draw), []);
  const live = useSession().link.live;
  useEffect(() => {
    const deaf = listen((message) => feed.take(message));
    return () => {
      deaf();
      clearTimeout(timer.current);
      ask('unsubscribe', { cron: job, machine }).catch(() => {}); // without a connection there is no subscription either
    };
  }, []);
  useEffect(() => {
    if (live) feed.subscribe();
  }, [live]);
  return feed;
}

export function OutputPanel({ job, run, machine }) {
  const feed = useFeed(job, run, machine);
  const [follow, setFollow] = useState(true);
  const wrap = preference('wrap') !== 'no';
  const [columns, measure] = useColumns();
  const rows = useRows(feed.screen, wrap ? columns : Infinity);
  const setWrap = () => prefer('wrap', wrap ? 'no' : '');
  const save = () => download({ run, machine });
  useKeys({ f: () => setFollow(!follow), w: setWrap, d: save });
  const { screen, error, complete } = feed;
  const onScrolled = (element, wentUp) => {
    if (element.scrollHeight - element.scrollTop - element.clientHeight < 2 * ROW) setFollow(true);
    else if (wentUp) setFollow(false);
  };
  return html`<div class="terminal">
    <div class="tools">
      <button aria-pressed=${String(follow)} onClick=${() => setFollow(!follow)}>Follow</button>
      <button aria-pressed=${String(wrap)} onClick=${setWrap}>Wrap</button>
      <button onClick=${save}>Download</button>
      <span class="fill"></span>
      <span class="muted" role="status">${status(screen, complete)}</span>
    </div>
    ${error && html`<${Failure} error=${error} />`}
    ${screen.dropped > 0 && html`<p class="notice">The first ${screen.dropped.toLocaleString('en')} lines are not shown; Download has all.</p>`}
    <${Windowed} class="screen" tabindex="0" role="log" aria-live="off" aria-label=${`Output of ${machine}`}
      count=${rows.count} rowHeight=${ROW} stick=${follow} onScrolled=${onScrolled} onSize=${measure}
      row=${(index) => html`<${Line} key=${index} runs=${rows.at(index)} />`} />
  </div>`;
}

function status(screen, complete) {
  const { lines } = screen;
  const count = lines.length + screen.dropped - (lines.at(-1).length === 0 ? 1 : 0);
  return `${count.toLocaleString('en')} ${count === 1 ? 'line' : 'lines'}${complete ? ', complete' : ''}`;
}

/** How many characters fit beside each other: a number that changes with the box. */
function useColumns() {
  const [columns, set] = useState(80);
  const measure = (element) => {
    const probe = document.createElement('span');
    probe.className = 'probe';
    probe.textContent = 'm'.repeat(100);
    element.append(probe);
    const width = probe.getBoundingClientRect().width / 100;
    probe.remove();
    const style = getComputedStyle(element);
    const room = element.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (width > 0) set(Math.max(20, Math.floor(room / width)));
  };
  return [columns, measure];
}

/** The rows of the screen's lines when each has at most `columns` characters: {count, at(index)}. */
function useRows(screen, columns) {
  const index = useMemo(() => new RowIndex(screen, columns), [screen, columns]);
  index.update();
  return index;
}

class RowIndex {
  constructor(screen, columns) {
    this._screen = screen;
    this._columns = columns;
    this._ends = []; // of each line: the number of rows up to its end
    this._length = 0;
    screen.changedFrom = 0;
  }

  /** Catch up with the screen: costs what has changed. */
  update() {
    const { lines } = this._screen;
    const from = Math.min(this._screen.settle(), this._length);
    let end = from > 0 ? this._ends[from - 1] : 0;
    for (let at = from; at < lines.length; at += 1) {
      end += this._columns === Infinity ? 1 : Math.max(1, Math.ceil(lengthOf(lines[at]) / this._columns));
      this._ends[at] = end;
    }
    this._length = this._ends.length = lines.length;
    const isFresh = lines.at(-1).length === 0; // nothing has been written behind the last newline
    this.count = isFresh ? end - 1 : end;
  }

  at(index) {
    const line = this._lineOf(index);
    if (this._columns === Infinity) return this._screen.lines[line];
    const part = index - (line > 0 ? this._ends[line - 1] : 0);
    return cut(this._screen.lines[line], part * this._columns, (part + 1) * this._columns);
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

function Line({ runs }) {
  return html`<div class="line">${runs.map(({ text, style }) => drawn(text, style))}</div>`;
}

function drawn(text, style) {
  const classes = ['bold', 'dim', 'italic', 'underline', 'inverse', 'strike'].filter((flag) => style[flag]);
  const exact = {};
  for (const [where, property] of [['fg', 'color'], ['bg', 'backgroundColor']]) {
    const colour = style[where];
    if (typeof colour === 'number' && colour < 16) classes.push(`${where}-${colour}`);
    else if (colour !== undefined) exact[property] = typeof colour === 'number' ? ofPalette(colour) : colour;
  }
  if (classes.length === 0 && Object.keys(exact).length === 0) return text;
  return html`<span class=${classes.join(' ')} style=${exact}>${text}</span>`;
}

/** The colours 16 to 255 of xterm: a cube of six steps, and greys. */
function ofPalette(number) {
  if (number >= 232) return `rgb(${Array(3).fill(8 + (number - 232) * 10).join()})`;
  const step = (each) => (each === 0 ? 0 : 55 + each * 40);
  const left = number - 16;
  return `rgb(${[Math.floor(left / 36), Math.floor(left / 6) % 6, left % 6].map(step).join()})`;
}

/** Save the output as it is stored, with its escape sequences. */
async function download({ run, machine }) {
  const parts = [];
  let position = 0;
  for (;;) {
    const { chunk, next, is_complete } = await ask('getOutput', { job_instance: run, machine, position, limit: 64 });
    parts.push(chunk);
    if (is_complete || next === position || next === null) break;
    position = next;
  }
  const url = URL.createObjectURL(new Blob(parts, { type: 'text/plain;charset=utf-8' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `${run}_${machine}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}


