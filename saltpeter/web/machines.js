// The machines of a run: one row each, from what the ledger says and what has been told since. Pure.

import { instant } from './model.js';
import { stateOfOutcome } from './parts.js';

/** Failures first, what is over and well last. */
const ORDER = ['failed', 'lost', 'timeout', 'killed', 'skipped', 'paused', 'running', 'waiting', 'ok'];
export const LIVING = new Set(['paused', 'running', 'waiting']);

/** `told` is what is known of the run, or undefined; `beats` the machines' parts as they were at their last heartbeats. */
export function machinesOf(told, beats = {}) {
  return Object.entries(told?.results ?? {}).map(([machine, part]) => asRow(machine, part, beats[machine] ?? part));
}

function asRow(machine, part, beat) {
  return {
    machine,
    state: stateOf(part),
    outcome: part.outcome ?? '',
    code: part.retcode ?? '',
    startedAt: instant(part.started || part.confirmed || part.launched),
    endedAt: instant(part.ended),
    heartbeatAt: instant(beat.last_heartbeat || part.last_heartbeat),
    pid: part.pid ?? '',
    version: part.wrapper_version,
    length: part.output_length,
    attempt: part.attempt,
    text: part.text,
    late: part.late,
    receipt: part.receipt,
    memory: part.usage?.max_rss || beat.rss || 0,
    cpu: part.usage ? part.usage.user_s + part.usage.system_s : (beat.cpu ?? null),
  };
}

function stateOf({ state, outcome, retcode }) {
  if (outcome) return stateOfOutcome(outcome, retcode);
  return { running: 'running', paused: 'paused' }[state] ?? 'waiting';
}

/** How many machines there are of each state, in the order of the list. */
export function counted(machines) {
  const counts = new Map(ORDER.map((state) => [state, 0]));
  for (const { state } of machines) counts.set(state, counts.get(state) + 1);
  return [...counts].filter(([, count]) => count > 0);
}

/** Rows for a list: a heading {state, count} before the machines of each state. `query` is words to be in the name, `only` a
    state or ''. */
export function grouped(machines, query, only = '') {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map(ORDER.map((state) => [state, []]));
  for (const row of machines) {
    if (only && row.state !== only) continue;
    if (words.every((word) => row.machine.toLowerCase().includes(word))) groups.get(row.state).push(row);
  }
  return [...groups].flatMap(([state, rows]) => (rows.length ? [{ heading: true, state, count: rows.length }, ...rows] : []));
}
