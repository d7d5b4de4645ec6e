// The timeline as a chart: names at the left, and a canvas that shows what is in sight.

import { inWords, nearest } from '../bars.js';
import { atOf, AXIS, coloursOf, draw, place, ROW } from '../chart.js';
import { jobAddress } from '../route.js';
import { shownZone } from '../session.js';
import { clock, inFull } from '../times.js';
import { moved, zoomed } from '../timescale.js';
import { html, useEffect, useLayoutEffect, useRef, useState } from '../ui.js';

const REACH = 6; // pixels beside an item that are as good as on it
const DRAGGED = 4; // pixels that make a click a drag
const CHUNK = 20; // lines that come into sight at once

/** `lines` are [{name, row}]; `setSight` is told which of them are in sight, `goTo` which window is wanted. */
export function Lines({ lines, window, now, chosen, choose, setSight, goTo, open }) {
  const box = useRef(null);
  const canvas = useRef(null);
  const [size, setSize] = useState({ width: 800, height: 400, label: 200, top: 0 });
  const [pointed, point] = useState(null);
  const look = () => setSize((old) => sameOr(old, measured(box.current, canvas.current)));
  useLayoutEffect(() => {
    look();
    const observer = new ResizeObserver(look);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const first = Math.floor(size.top / ROW / CHUNK) * CHUNK;
  const end = Math.ceil((size.top + size.height) / ROW / CHUNK) * CHUNK;
  useEffect(() => setSight([first, end]), [first, end]);
  useEffect(() => {
    keepInSight(box.current, chosen?.index ?? -1, size.height);
    if (chosen && !box.current.contains(document.activeElement)) box.current.focus({ preventScroll: true }); // so that Enter is meant for it
  }, [chosen]);
  const zone = shownZone();
  useLayoutEffect(() => {
    draw(canvas.current, { window, lines, ...size, now, zone, colours: coloursOf(box.current), pointed, chosen });
  });
  const under = (event) => found(event, canvas.current, { lines, window, size, now });
  const hands = useHands(canvas, { window, size, goTo, point, box, over: lines.length * ROW > size.height - AXIS, onClick: (event) => {
    const hit = under(event);
    if (hit?.item) open(hit.item);
    else choose(hit && { index: hit.index, item: null });
  } });
  const hit = pointed && under(pointed.event);
  const shown = hit?.item ? hit : chosen?.item && { ...chosen, x: place(chosen.item, lines[chosen.index]?.row ?? { lanes: 1 }, window, size.width, now).x, y: AXIS + chosen.index * ROW - size.top };
  const inSight = lines.slice(Math.floor(size.top / ROW), Math.ceil((size.top + size.height) / ROW));
  return html`<div class="lines" ref=${box} tabindex="0" role="group" onScroll=${look}
    aria-label=${`Timeline of ${lines.length} jobs. Up and down choose a job, [ and ] what it did, Enter opens it, left and right move in time, l shows a list.`}>
    <div class="sheet">
      <div class="labels"><span class="corner muted">${clock(pointed ? atOf(window, size.width, pointed.x) : now, { zone, now })}</span>
        <ul style=${{ transform: `translateY(${AXIS - (size.top % ROW)}px)` }}>
          ${inSight.map(({ name }, offset) => html`<li key=${name} class=${Math.floor(size.top / ROW) + offset === chosen?.index ? 'selected' : ''}><a href=${jobAddress(name)} title=${name}>${name}</a></li>`)}
        </ul>
      </div>
      <canvas ref=${canvas} class=${hit?.item ? 'over' : ''} aria-hidden="true" ...${hands} />
      ${shown && html`<${Tip} item=${shown.item} x=${Math.min(size.width - 20, Math.max(0, shown.x))} y=${shown.y} size=${size} now=${now} zone=${zone} />`}
    </div>
    <div class="rest" style=${{ height: `${Math.max(0, lines.length * ROW + AXIS - size.height)}px` }}></div>
    <p class="unseen" role="status">${chosen ? spoken(lines[chosen.index], chosen.item, zone, now) : ''}</p>
  </div>`;
}

function measured(box, canvas) {
  return { width: canvas.clientWidth, height: box.clientHeight, label: canvas.offsetLeft, top: box.scrollTop };
}

const sameOr = (old, next) => (Object.keys(next).every((key) => old[key] === next[key]) ? old : next);

function spoken(line, item, zone, now) {
  if (!line) return '';
  if (!item) return `${line.name}: nothing in this time`;
  const { title, text } = inWords(item, (at) => inFull(at, zone), now);
  return `${line.name}: ${title}, ${text}`;
}

function keepInSight(box, index, height) {
  if (index < 0) return;
  const room = height - AXIS;
  if (index * ROW < box.scrollTop) box.scrollTop = index * ROW;
  else if ((index + 1) * ROW > box.scrollTop + room) box.scrollTop = (index + 1) * ROW - room;
}

/** What the pointer is on: {index, item, x, y}; null beside the lines. */
function found({ clientX, clientY }, canvas, { lines, window, size, now }) {
  const box = canvas.getBoundingClientRect();
  const [x, y] = [clientX - box.left, clientY - box.top];
  const index = Math.floor((y - AXIS + size.top) / ROW);
  if (y < AXIS || x < 0 || index >= lines.length) return null;
  const { row } = lines[index];
  const perPixel = (window.to - window.from) / size.width;
  const lane = row ? Math.floor((((y - AXIS + size.top) % ROW) / ROW) * row.lanes) : 0;
  const item = nearest(row, Math.min(atOf(window, size.width, x), Math.max(now, atOf(window, size.width, x))), REACH * perPixel, lane);
  return { index, item: item?.to === null && atOf(window, size.width, x) > now + REACH * perPixel ? null : item, x, y };
}

function Tip({ item, x, y, size, now, zone }) {
  const { title, text } = inWords(item, (at) => clock(at, { zone, now }), now);
  const right = x > size.width / 2;
  const below = y < size.height - 110;
  const style = {
    left: right ? 'auto' : `${size.label + x + 12}px`,
    right: right ? `${size.width - x + 12}px` : 'auto',
    top: below ? `${y + 14}px` : 'auto',
    bottom: below ? 'auto' : `${size.height - y + 10}px`,
  };
  return html`<div class="tip" style=${style}><b>${item.job}</b><span class="state ${item.state}">${title}</span>${text && html`<span>${text}</span>`}</div>`;
}

/** What a pointer does: a drag moves, the wheel and two fingers zoom, a click opens. */
function useHands(canvas, { window, size, goTo, point, box, over, onClick }) {
  const held = useRef(new Map()); // pointer -> {x, y}
  const grip = useRef(null); // {window, x, y, top, apart, moved} as it began
  const now = useRef(null);
  now.current = { window, size, goTo, over };
  useEffect(() => {
    const wheel = (event) => turned(event, canvas.current, box.current, now.current);
    canvas.current.addEventListener('wheel', wheel, { passive: false });
    return () => canvas.current?.removeEventListener('wheel', wheel);
  }, []);
  const xs = () => [...held.current.values()].map(({ x }) => x);
  const take = () => (grip.current = { window, xs: xs(), y: [...held.current.values()][0]?.y, top: box.current.scrollTop, moved: grip.current?.moved ?? false });
  return {
    onPointerDown: (event) => {
      if (event.button) return;
      canvas.current.setPointerCapture(event.pointerId);
      held.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
      grip.current = null;
      take();
    },
    onPointerMove: (event) => {
      const { left, top } = canvas.current.getBoundingClientRect();
      if (event.pointerType !== 'touch') point({ x: event.clientX - left, y: event.clientY - top, event });
      if (!held.current.has(event.pointerId)) return;
      held.current.set(event.pointerId, { x: event.clientX, y: event.clientY });
      dragged(grip.current, xs(), event, { left, width: size.width, goTo, box: box.current });
    },
    onPointerUp: (event) => {
      const was = grip.current;
      held.current.delete(event.pointerId);
      if (held.current.size) take();
      else if (was && !was.moved) onClick(event);
    },
    onPointerCancel: (event) => held.current.delete(event.pointerId),
    onPointerLeave: () => point(null),
    onDblClick: (event) => goTo(zoomed(window, atOf(window, size.width, event.clientX - canvas.current.getBoundingClientRect().left), 0.4)),
  };
}

function dragged(grip, xs, event, { left, width, goTo, box }) {
  const by = xs[0] - grip.xs[0];
  if (!grip.moved && Math.abs(by) < DRAGGED && Math.abs(event.clientY - grip.y) < DRAGGED && xs.length < 2) return;
  grip.moved = true;
  const { window } = grip;
  if (xs.length > 1 && grip.xs.length > 1) {
    const factor = Math.abs(grip.xs[0] - grip.xs[1]) / Math.max(8, Math.abs(xs[0] - xs[1]));
    return goTo(zoomed(window, atOf(window, width, (grip.xs[0] + grip.xs[1]) / 2 - left), factor));
  }
  if (event.pointerType !== 'touch') box.scrollTop = grip.top + grip.y - event.clientY;
  if (Math.abs(by) >= DRAGGED) goTo(moved(window, (-by / width) * (window.to - window.from)));
}

/** The wheel zooms; where the lines need scrolling it does that, and zooms over the axis or with Ctrl. */
function turned(event, canvas, box, { window, size, goTo, over }) {
  const { left, top } = canvas.getBoundingClientRect();
  const sideways = event.shiftKey ? event.deltaY : event.deltaX;
  if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
    event.preventDefault();
    return goTo(moved(window, (sideways / size.width) * (window.to - window.from)));
  }
  if (over && !event.ctrlKey && !event.metaKey && event.clientY - top > AXIS) return undefined;
  event.preventDefault();
  return goTo(zoomed(window, atOf(window, size.width, event.clientX - left), Math.exp(event.deltaY / (event.ctrlKey ? 120 : 400))));
}

const KINDS = [
  ['ok', 'succeeded', 'M0 5h22v5H0z'],
  ['failed', 'went wrong', 'M0 1h22v13H0z'],
  ['killed', 'killed', 'M0 1h22v13H0zM2 3v9h18V3z'],
  ['running', 'running', 'M0 5h16v5H0zM16 3l6 4.5-6 4.5z'],
];

export function Legend() {
  return html`<p class="legend muted">
    ${KINDS.map(([state, word, path]) => html`<span><svg class=${state} viewBox="0 0 22 15" aria-hidden="true"><path fill-rule="evenodd" d=${path} /></svg>${word}</span>`)}
    <span><svg viewBox="0 0 14 15" aria-hidden="true"><path class="hollow" d="M7 2l5 5.5L7 13 2 7.500z" /></svg>did not run</span>
    <span><svg viewBox="0 0 14 15" aria-hidden="true"><circle class="hollow" cx="7" cy="7.5" r="4" /></svg>to come</span>
    <span class="hint">drag to move, wheel on the axis or Ctrl+wheel to zoom, click to open</span>
  </p>`;
}
