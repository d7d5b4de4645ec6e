// Instants and spans as people read them. Instants are milliseconds of the daemon's clock.

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const two = (number) => String(number).padStart(2, '0');

// A zone is '' for the browser's own, or an IANA name.

const formats = new Map(); // zone -> what writes its wall clock

/** `2026-11-20 03:00:00`, without the date where that is today's. */
export function clock(at, { zone, now }) {
  if (at === null || at === undefined) return '';
  const [date, time] = parts(at, zone);
  return date === parts(now, zone)[0] ? time : `${date} ${time}`;
}

/** The date and the time, and which zone that is. */
export function inFull(at, zone) {
  if (at === null || at === undefined) return '';
  return `${parts(at, zone).join(' ')} ${zone === 'UTC' ? 'UTC' : offset(at, zone)}`;
}

/** The zone's offset from UTC at `at`, in ms. */
export function offsetAt(at, zone) {
  if (zone === 'UTC') return 0;
  const format = zone && formatOf(zone);
  if (!format) return -new Date(at).getTimezoneOffset() * MINUTE;
  const { year, month, day, hour, minute, second } = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]));
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(at / SECOND) * SECOND;
}

/** The instant at which a clock in the zone shows `text`, such as `2026-11-20T03:00`; of two, the first. */
export function instantOf(text, zone) {
  const wall = Date.parse(`${text}Z`);
  const before = wall - offsetAt(wall - DAY, zone);
  return before + offsetAt(before, zone) === wall ? before : wall - offsetAt(wall, zone);
}

/** An instant as a field of type `datetime-local` has it. */
export function asWall(at, zone) {
  return parts(at, zone).join('T');
}

function formatOf(zone) {
  if (!formats.has(zone)) {
    const numeric = Object.fromEntries(['year', 'month', 'day', 'hour', 'minute', 'second'].map((part) => [part, 'numeric']));
    try {
      formats.set(zone, new Intl.DateTimeFormat('en', { timeZone: zone, calendar: 'gregory', hourCycle: 'h23', ...numeric }));
    } catch {
      formats.set(zone, null); // the browser does not know it: its own will do
    }
  }
  return formats.get(zone);
}

function parts(at, zone) {
  const text = new Date(at + offsetAt(at, zone)).toISOString();
  return [text.slice(0, 10), text.slice(11, 19)];
}

function offset(at, zone) {
  const minutes = Math.round(offsetAt(at, zone) / MINUTE);
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
