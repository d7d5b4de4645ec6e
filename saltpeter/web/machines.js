// The machines of a run: one row each, from what the ledger says and what has been told since. Pure.

import { instant } from './model.js';
import { stateOfOutcome } from './parts.js';

/** Failures first, what is over and well last. */
export const ORDER = ['failed', 'lost', 'timeout', 'killed', 'skipped', 'paused', 'running', 'waiting', 'ok'];
export const LIVING = new Set(['paused', 'running', 'waiting']);

/** `told` is what is known of the run, or undefined. */
export function machinesOf(told) {
  return Object.entries(told?.results ?? {}).map(([machine, part]) => asRow(machine, part));
}

function asRow(machine, part) {
  return {
    machine,
    state: stateOf(part),
    outcome: part.outcome ?? '',
    code: part.retcode ?? '',
    startedAt: instant(part.started || part.confirmed || part.launched),
    endedAt: instant(part.ended),
    heartbeatAt: instant(part.last_heartbeat),
    pid: part.pid ?? '',
    version: part.wrapper_version,
    length: part.output_length,
    attempt: part.attempt,
    text: part.text,
    late: part.late,
    receipt: part.receipt,
    usage: part.usage,
  };
}

function stateOf({ state, outcome, retcode }) {
  if (outcome) return stateOfOutcome(outcome, retcode);
  return { running: 'running', paused: 'paused' }[state] ?? 'waiting';
}

/** Rows for a list: a heading {state, count} before the machines of each state. `query` is words to be in the name. */
export function grouped(machines, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map(ORDER.map((state) => [state, []]));
  for (const row of machines) {
    if (words.every((word) => row.machine.toLowerCase().includes(word))) groups.get(row.state).push(row);
  }
  return [...groups].flatMap(([state, rows]) => (rows.length ? [{ heading: true, state, count: rows.length }, ...rows] : []));
}
