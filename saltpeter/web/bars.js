// What jobs have in a span of time, as things to draw: each knows from when to when, in which lane, and how to say it. Pure.

import { stateOfVerdict, WORDS } from './states.js';
import { span } from './times.js';

const REASONS = {
  overlap: 'the last run had not ended',
  maintenance: 'maintenance',
  no_targets: 'no targets',
  missed: 'missed',
  coalesced: 'one run stood for several',
  waiting: 'waits for the last run to end',
  held: 'held',
  error: 'error',
};
const MOST_LANES = 3;

/** The answer to `getBars` as a map: job -> {items, lanes}; items oldest first, each of kind run, passed or coming. */
export function asRows(answer) {
  const rows = new Map();
  const put = (item) => {
    if (!rows.has(item.job)) rows.set(item.job, { items: [], lanes: 1 });
    rows.get(item.job).items.push(item);
  };
  for (const bar of answer.bars) put(asRun(bar));
  for (const { cron, first, last, slots, reason, text } of answer.passed) {
    put({ kind: 'passed', job: cron, from: Date.parse(first), to: Date.parse(last), slots, reason, text, state: 'skipped' });
  }
  for (const { cron, slot } of answer.coming) put({ kind: 'coming', job: cron, from: Date.parse(slot), to: Date.parse(slot), state: 'waiting' });
  for (const row of rows.values()) {
    row.items.sort((one, other) => one.from - other.from);
    row.lanes = intoLanes(row.items);
  }
  return rows;
}

function asRun({ cron, began, ended, runs, failed, job_instance: run, verdict }) {
  const state = failed ? stateOfVerdict(verdict) : ended ? stateOfVerdict(verdict ?? 'success') : 'running';
  return { kind: 'run', job: cron, from: Date.parse(began), to: ended && Date.parse(ended), runs, failed, run, state };
}

/** Give each run the first lane that is free by then, so that runs beside each other are seen beside each other. */
function intoLanes(items) {
  const free = [];
  for (const item of items) {
    item.lane = 0;
    if (item.kind !== 'run') continue;
    const lane = free.findIndex((until) => until <= item.from);
    item.lane = lane < 0 ? Math.min(free.length, MOST_LANES - 1) : lane;
    free[item.lane] = item.to ?? Infinity;
  }
  return Math.max(1, free.length);
}

/** What an item is, in words: {title, text}. `when` writes an instant. */
export function inWords(item, when, now) {
  if (item.kind === 'coming') return { title: `due at ${when(item.from)}`, text: '' };
  if (item.kind === 'passed') {
    const title = REASONS[item.reason] ?? item.reason;
    const slots = item.slots > 1 ? `${item.slots} slots from ${when(item.from)} to ${when(item.to)}` : `the slot ${when(item.from)}`;
    return { title: `did not run: ${title}`, text: item.text && item.text !== title ? `${slots}: ${item.text}` : slots };
  }
  const took = span((item.to ?? now) - item.from);
  if (item.runs === 1) return { title: WORDS[item.state], text: `${when(item.from)}, ${item.to ? `took ${took}` : `for ${took} now`}` };
  const failed = item.failed ? `, ${item.failed} without success` : '';
  return { title: `${item.runs} runs${failed}`, text: `from ${when(item.from)} on, within ${took}` };
}

/** The item of `row` nearest to `at`, if one is within `reach` ms; of runs, one in `lane` before the others. */
export function nearest(row, at, reach, lane = 0) {
  let found = null;
  let least = reach;
  for (const item of row?.items ?? []) {
    const to = item.to ?? Infinity;
    const away = (at < item.from ? item.from - at : at > to ? at - to : 0) + (item.lane === lane ? 0 : reach / 4);
    if (away <= least) [found, least] = [item, away];
  }
  return found;
}
