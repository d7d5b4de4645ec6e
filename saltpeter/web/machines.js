// The machines of a run: one row each, from what the ledger says and what has been told since. Pure.

import { instant } from './model.js';
import { stateOfOutcome } from './parts.js';

/** Failures first, what is over and well last. */
export const ORDER = ['failed', 'lost', 'timeout', 'killed', 'skipped', 'paused', 'running', 'waiting', 'ok'];
export const LIVING = new Set(['paused', 'running', 'waiting']);

/** `known` is the answer to getRun, or undefined; `told` the newest details of the run, or undefined. */
export function machinesOf(known, told) {
  const names = new Set([...Object.keys(known?.results ?? {}), ...Object.keys(told?.results ?? {})]);
  return [...names].map((machine) => asRow(machine, known?.results?.[machine], told?.results?.[machine]));
}

function asRow(machine, known = {}, told) {
  const late = told?.late ?? known.late;
  return {
    machine,
    state: told ? stateTold(told) : stateKnown(known),
    outcome: told?.outcome ?? known.outcome ?? '',
    code: told?.retcode ?? known.retcode ?? '',
    startedAt: instant(told?.starttime || known.started || known.confirmed || known.launched),
    endedAt: instant(told?.endtime || known.ended),
    heartbeatAt: instant(told?.last_heartbeat),
    pid: known.pid ?? '',
    version: told?.wrapper_version || known.wrapper_version || '',
    length: told?.output_length ?? known.output_length ?? 0,
    attempt: told?.attempt ?? known.attempt ?? 1,
    text: known.text ?? '',
    late: late ?? null,
    receipt: known.receipt ?? null,
    usage: known.usage ?? null,
  };
}

function stateTold({ outcome, retcode, paused, wrapper_version }) {
  if (outcome) return stateOfOutcome(outcome, retcode);
  if (paused) return 'paused';
  return wrapper_version ? 'running' : 'waiting';
}

function stateKnown({ state, outcome, retcode }) {
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

/** What a refresh of the ledger's view hangs on: it changes when a machine has started or ended. */
export function progress(told, living) {
  const results = Object.values(told?.results ?? {});
  const count = (key) => results.reduce((sum, each) => sum + (each[key] ? 1 : 0), 0);
  const late = count('late');
  return [told?.verdict, results.length, count('wrapper_version'), count('endtime'), late, living?.machines.length].join();
}
