// A schedule in words, where it has simple ones. Pure.

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];
const DAY_NAMES = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const MONTHS = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December'];
const MONTH_NAMES = MONTHS.map((month) => month.slice(0, 3).toLowerCase());
const ALIASES = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};

/** `every 5 minutes`, `Monday to Friday at 03:00`; null for what has no short words. `text` has 5 to 7 fields. */
export function inWords(text) {
  const fields = (ALIASES[text.trim().toLowerCase()] ?? text).trim().split(/\s+/);
  if (fields.length < 5 || fields.length > 7) return null;
  if (fields.length === 7 && fields[6] !== '*') return null;
  const [sec, min, hour, dom, mon, dow] = fields.length === 5 ? ['0', ...fields] : fields;
  const time = timeOfDay(sec, min, hour);
  const date = daysOf(dom, mon, dow);
  if (time === null || date === null) return null;
  if (!date) return time.startsWith('at ') ? `every day ${time}` : time;
  return time.startsWith('at ') ? `${date} ${time}` : `${time}, ${date}`;
}

function timeOfDay(sec, min, hour) {
  if (min === '*' && hour === '*') return everyOf(sec, 'second') ?? (isNumber(sec) ? 'every minute' : null);
  if (sec !== '0') return null;
  if (hour === '*') return everyOf(min, 'minute') ?? minutesPast(min);
  const everyHours = isNumber(min) ? everyOf(hour, 'hour') : null;
  if (everyHours) return min === '0' ? everyHours : `${everyHours} at :${min.padStart(2, '0')}`;
  const hours = numbers(hour, 24);
  const minutes = numbers(min, 60);
  if (hours === null || minutes === null || hours.length * minutes.length > 3) return null;
  const times = hours.flatMap((each) => minutes.map((minute) => `${two(each)}:${two(minute)}`));
  return `at ${listed(times)}`;
}

function everyOf(field, unit) {
  if (field === '*') return `every ${unit}`;
  const [, step] = /^\*\/(\d+)$/.exec(field) ?? [];
  if (step === undefined) return null;
  return step === '1' ? `every ${unit}` : `every ${step} ${unit}s`;
}

function minutesPast(field) {
  const minutes = numbers(field, 60);
  if (minutes === null || minutes.length > 4) return null;
  return minutes.length === 1 && minutes[0] === 0 ? 'every hour' : `every hour at ${listed(minutes.map((minute) => `:${two(minute)}`))}`;
}

/** Which days; '' for all of them. */
function daysOf(dom, mon, dow) {
  const months = mon === '*' || mon === '?' ? '' : named(mon, MONTH_NAMES, (number) => MONTHS[number - 1]);
  if (months === null) return null;
  const everyDate = dom === '*' || dom === '?';
  const everyDay = dow === '*' || dow === '?';
  if (!everyDate && !everyDay) return null; // either or both: that takes a sentence
  if (!everyDay) {
    const days = named(dow.replace(/7/g, '0').replace(/^1-0$/, '*'), DAY_NAMES, (number) => DAYS[number]);
    return days && months ? `${days} in ${months}` : days;
  }
  if (everyDate) return months && `every day in ${months}`;
  const dates = dom.toUpperCase() === 'L' ? ['last day'] : numbers(dom, 32)?.map(ordinal);
  if (!dates || dates.length > 4) return null;
  return `${months || 'every month'} on the ${listed(dates)}`;
}

function named(field, names, word) {
  const number = (text) => (names.includes(text.toLowerCase()) ? names.indexOf(text.toLowerCase()) + (names.length === 12 ? 1 : 0) : isNumber(text) ? Number(text) : null);
  const parts = field.split(',').map((part) => {
    const ends = part.split('-').map(number);
    if (ends.length > 2 || ends.some((end) => end === null || word(end) === undefined)) return null;
    return ends.map(word).join(' to ');
  });
  return parts.length > 4 || parts.includes(null) ? null : listed(parts);
}

function numbers(field, end) {
  const parts = field.split(',');
  return parts.every((part) => isNumber(part) && Number(part) < end) ? parts.map(Number) : null;
}

const isNumber = (text) => /^\d{1,2}$/.test(text);
const two = (number) => String(number).padStart(2, '0');
const listed = (parts) => (parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`);
const ordinal = (number) => `${number}${{ 1: 'st', 2: 'nd', 3: 'rd', 21: 'st', 22: 'nd', 23: 'rd', 31: 'st' }[number] ?? 'th'}`;
