// A stretch of time as pixels: {from, to} in ms, how it is zoomed and moved, and where its marks stand. Pure.

import { DAY, HOUR, MINUTE, SECOND } from './times.js';

const SHORTEST = 10 * SECOND;
const LONGEST = 400 * DAY;
const STEPS = [
  ...[1, 5, 10, 30].map((count) => count * SECOND),
  ...[1, 5, 10, 30].map((count) => count * MINUTE),
  ...[1, 3, 6, 12].map((count) => count * HOUR),
  ...[1, 2, 7, 14, 28].map((count) => count * DAY),
];
const AHEAD = 0.15; // of a window that follows the present, what lies in the future
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const UNITS = { s: SECOND, m: MINUTE, h: HOUR, d: DAY };

/** `90m` in ms; `otherwise` for what is no span. */
export function readSpan(text, otherwise) {
  const [, amount, unit] = /^(\d{1,9})([smhd])$/.exec(text ?? '') ?? [];
  return amount ? Math.min(LONGEST, Math.max(SHORTEST, Number(amount) * UNITS[unit])) : otherwise;
}

/** A span as the address has it, in the largest unit that it fills. */
export function writeSpan(ms) {
  const seconds = Math.round(ms / SECOND);
  const [unit, size] = Object.entries(UNITS).reverse().find(([, each]) => (seconds * SECOND) % each === 0);
  return `${(seconds * SECOND) / size}${unit}`;
}

/** The window of `span` about `centre`; without one, the window that follows the present. */
export function windowOf({ centre, span }, now) {
  const from = centre === null ? now - span * (1 - AHEAD) : centre - span / 2;
  return { from, to: from + span };
}

/** `factor` below 1 shows less; what is at `at` stays where it is. */
export function zoomed({ from, to }, at, factor) {
  const span = Math.min(LONGEST, Math.max(SHORTEST, (to - from) * factor));
  const begin = at - ((at - from) / (to - from)) * span;
  return { from: begin, to: begin + span };
}

export const moved = ({ from, to }, by) => ({ from: from + by, to: to + by });

/** The marks of a window that is `width` pixels wide, with at least `room` pixels for each: {at, label, major}.
    `offsetAt` gives the zone's offset from UTC in ms. */
export function marks({ from, to }, width, offsetAt, room = 76) {
  const step = STEPS.find((each) => (each / (to - from)) * width >= room) ?? STEPS.at(-1);
  const found = [];
  const first = Math.ceil((from + offsetAt(from)) / step) * step;
  for (let wall = first; ; wall += step) {
    const at = wall - offsetAt(wall - offsetAt(wall)); // the second look is for the day on which the offset changes
    if (at > to) return found;
    found.push({ at, label: label(wall, step), major: wall % DAY === 0 });
  }
}

function label(wall, step) {
  const date = new Date(wall);
  if (wall % DAY === 0) return `${DAYS[date.getUTCDay()]} ${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
  return date.toISOString().slice(11, step < MINUTE ? 19 : 16);
}
