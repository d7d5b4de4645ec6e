// Instants and spans as people read them. Instants are milliseconds of the daemon's clock.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const two = (number) => String(number).padStart(2, '0');

/** `2026-11-20 03:00:00`, without the date where that is today's; in UTC or the browser's zone. */
export function clock(at, { utc, now }) {
  if (at === null || at === undefined) return '';
  const [date, time] = parts(at, utc);
  return date === parts(now, utc)[0] ? time : `${date} ${time}`;
}

/** The date and the time, and which zone that is. */
export function inFull(at, utc) {
  if (at === null || at === undefined) return '';
  return `${parts(at, utc).join(' ')} ${utc ? 'UTC' : offset(at)}`;
}

function parts(at, utc) {
  const date = new Date(utc ? at : at - new Date(at).getTimezoneOffset() * MINUTE);
  const text = date.toISOString();
  return [text.slice(0, 10), text.slice(11, 19)];
}

function offset(at) {
  const minutes = -new Date(at).getTimezoneOffset();
  return `UTC${minutes < 0 ? '−' : '+'}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
}

/** `4 s`, `1:05`, `2:03:04`, `3 d 4 h`. */
export function span(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return '';
  if (ms < 10 * SECOND) return `${(Math.max(0, ms) / SECOND).toFixed(1)} s`;
  if (ms < MINUTE) return `${Math.round(ms / SECOND)} s`;
  return wholeSpan(ms);
}

/** The same in whole seconds, for what counts down. */
export function countdown(ms) {
  if (ms <= 0) return 'now';
  return ms < MINUTE ? `${Math.ceil(ms / SECOND)} s` : wholeSpan(ms);
}

function wholeSpan(ms) {
  if (ms >= 2 * DAY) return `${Math.floor(ms / DAY)} d ${Math.floor((ms % DAY) / HOUR)} h`;
  const seconds = Math.floor(ms / SECOND);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** `just now`, `5 min ago`, `3 h ago`, `2 d ago`. */
export function ago(ms) {
  if (ms < MINUTE) return ms < 5 * SECOND ? 'just now' : `${Math.floor(ms / SECOND)} s ago`;
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min ago`;
  return ms < 2 * DAY ? `${Math.floor(ms / HOUR)} h ago` : `${Math.floor(ms / DAY)} d ago`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** power).toFixed(1)} ${units[power - 1]}`;
}
