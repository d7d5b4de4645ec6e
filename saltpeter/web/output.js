// The output of one machine in one run, as a terminal would show it. Only the rows in sight exist.

import { download, useFeed } from './feed.js';
import { useKeys } from './keys.js';
import { Failure, plural } from './parts.js';
import { Finder, marked, MOST_HITS, RowIndex } from './rows.js';
import { prefer, preference } from './session.js';
import { bytes } from './times.js';
import { html, useEffect, useMemo, useRef, useState } from './ui.js';
import { Windowed } from './windowed.js';

const ROW = 18;

/** `keys` says whether the keys are for this output, if several stand beside each other. */
export function OutputPanel({ job, run, machine, attempts = 1, keys = true }) {
  const feed = useFeed(job, run, machine);
  const [follow, setFollow] = useState(true);
  const wrap = preference('wrap') !== 'no';
  const [columns, measure] = useColumns();
  const rows = useRows(feed.screen, wrap ? columns : Infinity);
  const found = useFound(feed.screen, () => setFollow(false));
  const [saving, save] = useSaving({ run, machine, attempts });
  const setWrap = () => prefer('wrap', wrap ? 'no' : '');
  useKeys(keys ? { f: () => setFollow(!follow), w: setWrap, d: save, s: found.focus, n: () => found.move(1), N: () => found.move(-1) } : {});
  const { screen, error, complete } = feed;
  const onScrolled = (element, wentUp) => {
    if (element.scrollHeight - element.scrollTop - element.clientHeight < 2 * ROW) setFollow(true);
    else if (wentUp) setFollow(false);
  };
  return html`<div class="terminal">
    <div class="tools">
      <button aria-pressed=${String(follow)} onClick=${() => setFollow(!follow)}>Follow</button>
      <button aria-pressed=${String(wrap)} onClick=${setWrap}>Wrap</button>
      <button onClick=${save} disabled=${saving !== null}>${saving === null ? 'Download' : `Saving… ${bytes(saving)}`}</button>
      <${Find} found=${found} machine=${machine} />
      <span class="fill"></span>
      <span class="muted" role="status">${status(screen, complete)}</span>
    </div>
    ${error && html`<${Failure} error=${error} />`}
    ${screen.dropped > 0 && html`<p class="notice">The first ${screen.dropped.toLocaleString('en')} lines are not shown; Download has all.</p>`}
    <${Windowed} class="screen" tabindex="0" role="log" aria-live="off" aria-label=${`Output of ${machine}`}
      count=${rows.count} rowHeight=${ROW} stick=${follow} onScrolled=${onScrolled} onSize=${measure}
      selected=${found.current ? rows.rowOf(found.current.line, found.current.start) : -1}
      row=${(index) => html`<${Line} key=${index} row=${rows.at(index)} found=${found} />`} />
  </div>`;
}

function status(screen, complete) {
  const { lines } = screen;
  const count = lines.length + screen.dropped - (lines.at(-1).length === 0 ? 1 : 0);
  if (count === 0 && complete) return 'no output';
  return `${plural(count, 'line')}${complete ? ', complete' : ''}`;
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

function useRows(screen, columns) {
  const index = useMemo(() => new RowIndex(screen, columns), [screen, columns]);
  useEffect(() => () => index.close(), [index]);
  index.update();
  return index;
}

/** How many bytes have been fetched of what is being saved, or null; and what begins it. */
function useSaving(what) {
  const [size, set] = useState(null);
  const begin = () => {
    set(0);
    download(what, set).catch(() => {}).finally(() => set(null)); // the page says itself that it is not live
  };
  return [size, begin];
}

/** What is looked for in the output: {query, hits, current, all, …}. `onFound` is told when one is looked at. */
function useFound(screen, onFound) {
  const [query, setQuery] = useState('');
  const [at, setAt] = useState(0);
  const [, again] = useState(0);
  const field = useRef(null);
  const finder = useMemo(() => (query ? new Finder(screen, query) : null), [screen, query]);
  useEffect(() => () => finder?.close(), [finder]);
  const all = finder?.update() ?? true;
  useEffect(() => {
    if (all) return undefined;
    const timer = setTimeout(() => again((count) => count + 1));
    return () => clearTimeout(timer);
  });
  const hits = finder?.hits ?? [];
  const place = Math.min(at, hits.length - 1);
  const move = (by) => {
    if (hits.length === 0) return;
    setAt((place + by + hits.length) % hits.length);
    onFound();
  };
  const look = (text) => {
    setQuery(text);
    setAt(0);
    if (text) onFound();
  };
  return { query, hits, place, all, current: hits[place], inLine: (line) => finder?.inLine(line) ?? [], move, look, field, focus: () => field.current.focus() };
}

function Find({ found, machine }) {
  const { query, hits, place, all, move, look, field } = found;
  const onKeyDown = (event) => {
    if (event.key === 'Enter') move(event.shiftKey ? -1 : 1);
    else if (event.key === 'Escape') (look(''), field.current.blur());
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const count = `${hits.length.toLocaleString('en')}${hits.length === MOST_HITS || !all ? '+' : ''}`;
  return html`<span class="find" role="search">
    <input ref=${field} type="search" value=${query} placeholder="Find  ( s )" aria-label=${`Find in the output of ${machine}`} maxlength="200"
      spellcheck="false" onInput=${(event) => look(event.target.value)} onKeyDown=${onKeyDown} />
    ${query && html`<span class="muted number" role="status">${hits.length ? `${place + 1} of ${count}` : all ? 'none' : '…'}</span>
      <button class="quiet" onClick=${() => move(-1)} disabled=${hits.length === 0} aria-label="Previous hit">↑</button>
      <button class="quiet" onClick=${() => move(1)} disabled=${hits.length === 0} aria-label="Next hit">↓</button>`}
  </span>`;
}

function Line({ row: { line, start, runs }, found }) {
  const hits = found.inLine(line);
  const shown = hits.length ? marked(runs, start, hits, found.current) : runs;
  return html`<div class="line">${shown.map(({ text, style, mark }) => (mark ? html`<mark class=${mark}>${drawn(text, style)}</mark>` : drawn(text, style)))}</div>`;
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
