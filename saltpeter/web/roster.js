// How the machines fare: what the daemon remembers of them, what runs there now, and what is under maintenance.

import { collator } from './model.js';
import { stateOfOutcome } from './parts.js';
import { ask, useSession } from './session.js';
import { useEffect, useMemo, useState } from './ui.js';

const APART_MS = 3000; // between questions
const OVERLAP_MS = 5000; // that are asked for again: what is just being written

export const FILTERS = {
  all: () => true,
  failing: ({ failures }) => failures > 0,
  'not responding': ({ silentSince }) => silentSince !== null,
  running: ({ parts }) => parts.length > 0,
  maintenance: ({ held }) => held !== null,
};

const remembered = new Map(); // machine -> what the daemon has told
let toldAt = null; // the daemon's time when it did, as text
let changes = 0;

async function inquire() {
  const since = toldAt === null ? {} : { since: new Date(Date.parse(toldAt) - OVERLAP_MS).toISOString() };
  const { now, machines } = await ask('getMachines', since);
  toldAt = now;
  for (const each of machines) remembered.set(each.machine, each);
  changes += machines.length;
}

/** All machines that are known, by name: {machines, error}. Asked for what is new when the model moves on. */
export function useRoster() {
  const { model, link } = useSession();
  const [{ error, known }, set] = useState({ error: null, known: toldAt !== null });
  const [asked] = useState({ at: 0, busy: false });
  useEffect(() => {
    if (!link.live || asked.busy) return undefined;
    const timer = setTimeout(async () => {
      Object.assign(asked, { at: Date.now(), busy: true });
      const told = await inquire().then(() => null, (problem) => problem);
      asked.busy = false;
      set({ error: told, known: toldAt !== null });
    }, Math.max(0, asked.at + APART_MS - Date.now()));
    return () => clearTimeout(timer);
  }, [link.live, model.version, asked.busy]);
  const machines = useMemo(() => together(model), [model.version, changes, known]);
  return { machines, error, known };
}

function together(model) {
  const running = runningOn(model);
  const names = new Set([...remembered.keys(), ...running.keys(), ...model.maintenance.machines]);
  return [...names].sort(collator.compare).map((name) => asMachine(name, remembered.get(name), running.get(name) ?? [], heldBy(model, name)));
}

/** machine -> [{run, job, startedAt, state}], the oldest run first. */
export function runningOn(model) {
  const found = new Map();
  for (const { run, job, startedAt, states } of model.running.values()) {
    for (const [machine, state] of states) {
      if (state === 'ended') continue;
      if (!found.has(machine)) found.set(machine, []);
      found.get(machine).push({ run, job, startedAt, state });
    }
  }
  return found;
}

/** Its maintenance, by hand or by the configuration; null without. */
export function heldBy({ maintenance }, machine) {
  const byHand = (maintenance.holds ?? []).find((hold) => hold.machine === machine);
  if (byHand && maintenance.machines.includes(machine)) return byHand;
  return maintenance.machines.includes(machine) ? { machine, reason: 'by the configuration', by: '', until: null, written: true } : null;
}

function asMachine(name, told, parts, held) {
  const silentSince = told?.silent_since && !parts.some(({ state }) => state === 'running') ? Date.parse(told.silent_since) : null;
  const failures = told?.failures ?? 0;
  const machine = { name, parts, held, silentSince, failures, last: asPart(told?.last), failed: asPart(told?.failed) };
  return { ...machine, state: stateOf(machine) };
}

function stateOf({ held, silentSince, failures, parts, last }) {
  if (held) return 'paused';
  if (silentSince) return 'lost';
  if (failures) return 'failed';
  return parts.length ? 'running' : (last?.state ?? 'waiting');
}

/** An execution that has ended, as the daemon tells it. */
export function asPart(told) {
  if (!told) return null;
  const { job_instance: run, cron: job, started, ended, outcome, retcode } = told;
  return { run, job, startedAt: started && Date.parse(started), endedAt: Date.parse(ended), outcome, retcode, state: stateOfOutcome(outcome, retcode) };
}

const KEYS = {
  last: ({ last }) => -(last?.endedAt ?? 0),
  failures: ({ failures }) => -failures,
  failed: ({ failed }) => -(failed?.endedAt ?? 0),
  running: ({ parts }) => -parts.length,
};

/** The machines whose names or running jobs hold every word of `query`, that pass `filter`, in the order of `sort`. */
export function find(machines, { query, filter, sort }) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const passes = FILTERS[filter] ?? FILTERS.all;
  const holds = ({ name, parts }, word) => name.toLowerCase().includes(word) || parts.some(({ job }) => job.toLowerCase().includes(word));
  const found = machines.filter((machine) => passes(machine) && words.every((word) => holds(machine, word)));
  const key = KEYS[sort.replace('-', '')];
  if (key) found.sort((one, other) => key(one) - key(other));
  return sort.startsWith('-') ? found.reverse() : found;
}
