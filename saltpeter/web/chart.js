// The timeline's canvas: what is in sight of it, drawn anew for each frame. It knows no state but what it is given.

import { marks } from './timescale.js';
import { offsetAt } from './times.js';

export const AXIS = 30;
export const ROW = 26;
const LEAST = 2; // pixels of the shortest bar
const INSET = 5; // above and below the bars of a row
const NAMES = ['ok', 'failed', 'running', 'killed', 'skipped', 'waiting', 'text', 'muted', 'line', 'line-strong', 'panel', 'ground', 'hover', 'selected', 'accent'];

/** The page's colours as they are now, light or dark. */
export function coloursOf(element) {
  const probe = element.appendChild(document.createElement('i'));
  const found = {};
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

const xOf = ({ from, to }, width, at) => ((at - from) / (to - from)) * width;
export const atOf = ({ from, to }, width, x) => from + (x / width) * (to - from);

/** Where an item stands in its row: {x, y, width, height} in pixels from the row's corner. */
export function place(item, row, window, width, now) {
  const x = xOf(window, width, item.from);
  const until = xOf(window, width, item.to ?? Math.max(now, item.from));
  const room = (ROW - 2 * INSET) / row.lanes;
  return { x, width: Math.max(LEAST, until - x), y: INSET + item.lane * room, height: Math.max(3, room - (row.lanes > 1 ? 1 : 0)) };
}

/** Draw `lines` ([{name, row}]) from the one at `top` pixels on. `pointed` is where the pointer is, `chosen` {index, item}. */
export function draw(canvas, { window, lines, top, width, height, now, zone, colours, pointed, chosen }) {
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  }
  const pen = canvas.getContext('2d');
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `11.5px ${getComputedStyle(canvas).fontFamily}`;
  pen.textBaseline = 'middle';
  const first = Math.max(0, Math.floor(top / ROW));
  const end = Math.min(lines.length, Math.ceil((top + height) / ROW));
  pen.save();
  pen.beginPath();
  pen.rect(0, AXIS, width, height - AXIS);
  pen.clip();
  stripe(pen, { first, end, top, width, colours, pointed, chosen });
  const ticks = marks(window, width, (at) => offsetAt(at, zone));
  grid(pen, ticks, { window, width, height, now, colours });
  for (let index = first; index < end; index += 1) {
    pen.translate(0, AXIS + index * ROW - top);
    if (lines[index].row) drawRow(pen, lines[index].row, { window, width, now, colours, chosen: chosen?.index === index ? chosen.item : null });
    pen.translate(0, -(AXIS + index * ROW - top));
  }
  present(pen, { window, width, height, now, colours });
  pen.restore();
  drawAxis(pen, ticks, { window, width, colours });
  if (pointed) crosshair(pen, pointed.x, { width, height, colours });
}

function stripe(pen, { first, end, top, width, colours, pointed, chosen }) {
  const under = pointed ? Math.floor((pointed.y - AXIS + top) / ROW) : -1;
  for (let index = first; index < end; index += 1) {
    const y = AXIS + index * ROW - top;
    if (index === chosen?.index || index === under) {
      pen.fillStyle = index === chosen?.index ? colours.selected : colours.hover;
      pen.fillRect(0, y, width, ROW);
    }
    pen.fillStyle = colours.line;
    pen.fillRect(0, y + ROW - 1, width, 1);
  }
}

function grid(pen, ticks, { window, width, height, now, colours }) {
  const present = Math.min(width, Math.max(0, xOf(window, width, now)));
  pen.fillStyle = colours.ground; // what is to come has not happened: it lies on other ground
  pen.globalAlpha = 0.7;
  pen.fillRect(present, AXIS, width - present, height);
  pen.globalAlpha = 1;
  for (const { at, major } of ticks) {
    pen.fillStyle = major ? colours['line-strong'] : colours.line;
    pen.fillRect(Math.round(xOf(window, width, at)), AXIS, 1, height);
  }
}

function present(pen, { window, width, height, now, colours }) {
  const x = xOf(window, width, now);
  if (x < 0 || x > width) return;
  pen.fillStyle = colours.accent;
  pen.fillRect(Math.round(x), AXIS, 1.5, height);
}

function drawAxis(pen, ticks, { window, width, colours }) {
  pen.fillStyle = colours.panel;
  pen.fillRect(0, 0, width, AXIS);
  for (const { at, label, major } of ticks) {
    const x = Math.round(xOf(window, width, at));
    pen.fillStyle = colours['line-strong'];
    pen.fillRect(x, AXIS - 6, 1, 6);
    pen.fillStyle = major ? colours.text : colours.muted;
    if (x + 4 < width - 20) pen.fillText(label, x + 4, AXIS / 2);
  }
  pen.fillStyle = colours['line-strong'];
  pen.fillRect(0, AXIS - 1, width, 1);
}

function crosshair(pen, x, { height, colours }) {
  pen.fillStyle = colours.muted;
  pen.globalAlpha = 0.6;
  pen.fillRect(Math.round(x), 0, 1, height);
  pen.globalAlpha = 1;
}

function drawRow(pen, row, { window, width, now, colours, chosen }) {
  for (const item of row.items) {
    const at = place(item, row, window, width, now);
    if (at.x > width + ROW || at.x + at.width < -ROW) continue;
    if (item.kind === 'coming') coming(pen, at.x, colours);
    else if (item.kind === 'passed') passed(pen, at, colours);
    else bar(pen, item, at, colours);
    if (item === chosen) around(pen, item, at, colours);
  }
}

// What went well is flat and what went wrong is high, so that colour alone does not have to tell.
function bar(pen, item, { x, y, width, height }, colours) {
  const flat = item.state === 'ok' || item.state === 'running' ? Math.max(3, height * 0.55) : height;
  const top = y + (height - flat) / 2;
  pen.fillStyle = colours[item.state] ?? colours.failed;
  pen.globalAlpha = item.state === 'ok' ? 0.8 : 1;
  pen.fillRect(x, top, width, flat);
  pen.globalAlpha = 1;
  if (item.state === 'running') arrow(pen, x + width, top, flat);
  if (item.state === 'failed' && width >= 12) cross(pen, x + width / 2, top + flat / 2, colours);
  if (item.state === 'killed' && width >= 7) {
    pen.fillStyle = colours.panel;
    pen.fillRect(x + 2, top + 2, width - 4, Math.max(1, flat - 4));
  }
  if (item.runs > 1) several(pen, item, { x, top, width, flat }, colours);
}

function arrow(pen, x, top, height) {
  pen.beginPath();
  pen.moveTo(x, top - 2);
  pen.lineTo(x + 6, top + height / 2);
  pen.lineTo(x, top + height + 2);
  pen.fill();
}

function cross(pen, x, y, colours) {
  pen.strokeStyle = colours.panel;
  pen.lineWidth = 1.6;
  pen.beginPath();
  pen.moveTo(x - 3, y - 3);
  pen.lineTo(x + 3, y + 3);
  pen.moveTo(x + 3, y - 3);
  pen.lineTo(x - 3, y + 3);
  pen.stroke();
}

/** How many they are, where there is room for it; else a comb's teeth. */
function several(pen, item, { x, top, width, flat }, colours) {
  pen.fillStyle = colours.panel;
  const label = String(item.runs);
  if (width > pen.measureText(label).width + 26 && flat >= 8) {
    pen.font = pen.font.replace(/^[\d.]+px/, '10px');
    pen.fillText(label, x + 4, top + flat / 2 + 0.5);
    pen.font = pen.font.replace(/^[\d.]+px/, '11.5px');
    return;
  }
  for (let tooth = 3; tooth < width - 1; tooth += 4) pen.fillRect(x + tooth, top, 1, flat);
}

function passed(pen, { x, width }, colours) {
  const middle = ROW / 2;
  pen.strokeStyle = colours.muted;
  pen.lineWidth = 1.4;
  if (width > 8) {
    pen.setLineDash([2, 3]);
    pen.beginPath();
    pen.moveTo(x, middle);
    pen.lineTo(x + width, middle);
    pen.stroke();
    pen.setLineDash([]);
  }
  for (const centre of width > 8 ? [x, x + width] : [x]) diamond(pen, centre, middle, colours);
}

function diamond(pen, x, y, colours) {
  pen.fillStyle = colours.panel;
  pen.beginPath();
  pen.moveTo(x, y - 5);
  pen.lineTo(x + 5, y);
  pen.lineTo(x, y + 5);
  pen.lineTo(x - 5, y);
  pen.closePath();
  pen.fill();
  pen.stroke();
}

function coming(pen, x, colours) {
  pen.strokeStyle = colours.waiting;
  pen.lineWidth = 1.3;
  pen.fillStyle = colours.panel;
  pen.beginPath();
  pen.arc(x, ROW / 2, 3.4, 0, 7);
  pen.fill();
  pen.stroke();
}

function around(pen, item, { x, y, width, height }, colours) {
  pen.strokeStyle = colours.accent;
  pen.lineWidth = 2;
  const small = item.kind !== 'run';
  const [left, wide] = small ? [x - 8, 16 + (item.kind === 'passed' ? width : 0)] : [x - 3, width + 6];
  pen.strokeRect(left, small ? 3 : y - 3, wide, small ? ROW - 6 : height + 6);
}
