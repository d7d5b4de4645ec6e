// One run, live: its machines by state, what they wrote, and what can be done to them.

import { Alike } from '../alike.js';
import { Fleet, States } from '../fleet.js';
import { glanceAt, Progress } from '../glances.js';
import { useKeys } from '../keys.js';
import { grouped, LIVING, machinesOf } from '../machines.js';
import { described, halt, kill, sendSignal } from '../operations.js';
import { OutputPanel } from '../output.js';
import { At, Empty, Failure, Lasting, SearchField, State, stateOfVerdict } from '../parts.js';
import { jobAddress, jobOfRun, runAddress } from '../route.js';
import { adjust, ask, mayAct, useNow, useRun, useSession } from '../session.js';
import { bytes, span } from '../times.js';
import { html, useEffect, useMemo, useState } from '../ui.js';

const BEAT_MS = 5000;
const PER_MACHINE_MS = 4; // how much less often a large run is asked for
const FEW = 12; // machines that need no search field
const BESIDE = 4; // outputs side by side, at most

export function RunPage({ route }) {
  const { model } = useSession();
  const [run] = route.names;
  const job = jobOfRun(run);
  const { told, error } = useRun(job, run);
  const living = model.running.get(run);
  const result = told?.run;
  const beats = useBeats(run, living);
  const machines = useMemo(() => machinesOf(told, beats), [told, beats]);
  const [picked, setPicked] = useState(new Set());
  const { q: query = '', state: only = '', view = '', beside = '' } = route.query;
  const rows = useMemo(() => grouped(machines, query, only), [machines, query, only]);
  const ended = result?.ended;
  const verdict = result?.verdict || '';
  const stage = `${living?.open} ${verdict}`; // changes when machines have ended
  const open = route.query.m ?? rows.find((row) => !row.heading)?.machine;
  const change = (changes) => adjust(runAddress(run, { ...route.query, ...changes }));
  const show = (machine) => change({ m: machine, view: '', beside: '' });
  const compare = (names) => change({ beside: names.slice(0, BESIDE).join('\n'), view: 'beside' });
  const pick = (names, isPicked) => setPicked(changed(picked, names, isPicked));
  const actions = useActions({ job, run, machines, picked, isLiving: !ended });
  const asked = view === 'beside' ? beside.split('\n').filter(Boolean) : [];
  const views = { output: () => change({ view: '' }), alike: () => change({ view: 'alike' }), beside: () => compare(picked.size > 1 ? [...picked] : around(machines, open)) };
  useRunKeys({ rows, open, show, picked, pick, setPicked, actions, views });
  if (error && !living) return html`<div class="page"><h1>${run}</h1><${Failure} error=${error} /></div>`;
  return html`<div class="page run">
    <header class="title">
      <h1><a href=${jobAddress(job)}>${job}</a></h1>
      <${State} state=${ended ? stateOfVerdict(verdict) : 'running'} />
      ${living && html`<${Expected} model=${model} living=${living} />`}
      <span class="fill"></span>
      ${!ended && mayAct() && html`<${Buttons} actions=${actions} picked=${picked.size} />`}
    </header>
    <${Facts} run=${run} result=${result} living=${living} machines=${machines} />
    ${result?.text && html`<p class="notice">${result.text}</p>`}
    <div class="split">
      <section class="fleet" aria-label="Machines">
        ${machines.length > 0 && html`<${States} machines=${machines} only=${only} choose=${(state) => change({ state })} />`}
        ${machines.length > FEW && html`<div class="tools"><${SearchField} label="Search machines" hint="Search machines" search=${(q) => change({ q })} /></div>`}
        <${Fleet} rows=${rows} open=${view ? null : open} show=${show} picked=${picked} pick=${pick} />
        ${machines.length === 0 && html`<${Empty}>${ended ? 'No machine took part.' : 'Waiting for the machines…'}<//>`}
      </section>
      <section class="output" aria-label="Output">
        ${machines.length > 1 && html`<${Views} view=${view} views=${views} />`}
        ${view === 'alike' && html`<${Alike} run=${run} again=${stage} show=${show} compare=${compare} />`}
        ${view === 'beside' && html`<div class="beside">${asked.map((machine) => html`<${OneOutput} key=${`${run} ${machine}`} job=${job} run=${run}
          row=${machines.find((each) => each.machine === machine)} keys=${machine === asked[0]} />`)}</div>`}
        ${view === '' && html`<${OneOutput} key=${`${run} ${open}`} job=${job} run=${run} row=${machines.find((each) => each.machine === open)} />`}
      </section>
    </div>
  </div>`;
}

/** The machines' parts at their last heartbeats, which are not told by themselves. */
function useBeats(run, living) {
  const [beats, set] = useState({});
  const isLiving = Boolean(living);
  const apartMs = Math.max(BEAT_MS, (living?.targets ?? 0) * PER_MACHINE_MS);
  useEffect(() => {
    if (!isLiving) return undefined;
    const timer = setInterval(() => ask('getRun', run).then(({ results }) => set(results), () => {}), apartMs);
    return () => clearInterval(timer);
  }, [run, isLiving, apartMs]);
  return beats;
}

function OneOutput({ job, run, row, keys }) {
  return row && html`<div class="one">
    <${MachineFacts} row=${row} />
    <${OutputPanel} job=${job} run=${run} machine=${row.machine} attempts=${row.attempt} keys=${keys} />
  </div>`;
}

const VIEWS = [
  ['output', '', 'Output'],
  ['alike', 'alike', 'Alike'],
  ['beside', 'beside', 'Side by side'],
];

function Views({ view, views }) {
  return html`<div class="choices views" role="group" aria-label="What to show of the output">
    ${VIEWS.map(([name, value, title]) => html`<button aria-pressed=${String(view === value)} onClick=${views[name]}>${title}</button>`)}
  </div>`;
}

/** The open machine and the one after it, or before it if it is the last. */
function around(machines, open) {
  const names = machines.map(({ machine }) => machine);
  const at = Math.max(0, names.indexOf(open));
  return [names[at], names[at + 1] ?? names[at - 1]].filter(Boolean);
}

function Expected({ model, living }) {
  const now = useNow();
  const usual = glanceAt(model, living.job)?.usual;
  return usual ? html`<span class="expected muted"><${Progress} startedAt=${living.startedAt} usual=${usual} now=${now} /> usually ${span(usual)}</span>` : null;
}

/** What can be done, to the machines that are picked and live, or to all that live. */
function useActions({ job, run, machines, picked, isLiving }) {
  const all = machines.filter(({ state }) => LIVING.has(state)).map(({ machine }) => machine);
  const hit = picked.size ? all.filter((machine) => picked.has(machine)) : all;
  const part = { job, run, hit, machines: hit.length === all.length ? null : hit };
  const can = isLiving && hit.length > 0;
  const act = (does) => () => can && does();
  return {
    can,
    hit,
    kill: act(() => kill(part)),
    pause: act(() => halt('pause', part)),
    resume: act(() => halt('resume', part)),
    signal: act(() => sendSignal(part)),
  };
}

function useRunKeys({ rows, open, show, picked, pick, setPicked, actions, views }) {
  const names = rows.filter((row) => !row.heading).map(({ machine }) => machine);
  const move = (by) => () => {
    const next = names[Math.max(0, Math.min(names.length - 1, names.indexOf(open) + by))];
    if (next !== undefined) show(next);
  };
  useKeys({
    j: move(1),
    k: move(-1),
    ArrowDown: move(1),
    ArrowUp: move(-1),
    x: () => open && pick([open], !picked.has(open)),
    K: actions.kill,
    p: actions.pause,
    c: actions.resume,
    S: actions.signal,
    o: views.output,
    a: views.alike,
    b: views.beside,
    '/': () => document.querySelector('.fleet input[type=search]')?.focus(),
    Escape: () => (document.activeElement.blur(), setPicked(new Set())),
  });
}

function changed(set, names, isIn) {
  const next = new Set(set);
  for (const name of names) isIn ? next.add(name) : next.delete(name);
  return next;
}

function Buttons({ actions, picked }) {
  const on = picked ? ` ${actions.hit.length}` : ' all';
  const off = !actions.can;
  return html`<div class="buttons" role="group" aria-label="Actions">
    <button disabled=${off} onClick=${actions.pause}>Pause${on}</button>
    <button disabled=${off} onClick=${actions.resume}>Resume${on}</button>
    <button disabled=${off} onClick=${actions.signal}>Signal${on}</button>
    <button disabled=${off} class="danger" onClick=${actions.kill}>Kill${on}</button>
  </div>`;
}

function Facts({ run, result, living, machines }) {
  const startedAt = result ? Date.parse(result.started) : living?.startedAt;
  const endedAt = result?.ended ? Date.parse(result.ended) : null;
  const failed = machines.filter(({ state }) => !LIVING.has(state) && state !== 'ok' && state !== 'skipped').length;
  const over = machines.filter(({ state }) => !LIVING.has(state)).length;
  return html`<dl class="facts">
    <div><dt>Run</dt><dd class="written">${run}</dd></div>
    <div><dt>Started</dt><dd><${At} at=${startedAt} /></dd></div>
    <div><dt>${endedAt ? 'Took' : 'For'}</dt><dd class="number"><${Lasting} from=${startedAt} to=${endedAt} /></dd></div>
    <div><dt>Done</dt><dd class="number">${over} of ${machines.length}</dd></div>
    ${failed > 0 && html`<div><dt>Failed</dt><dd class="number bad">${failed}</dd></div>`}
    ${result && html`<div><dt>By</dt><dd>${result.by}</dd></div>`}
    ${result?.kills?.length > 0 && html`<div><dt>Killed by</dt><dd>${[...new Set(result.kills.map(({ by }) => by))].join(', ')}</dd></div>`}
  </dl>`;
}

function MachineFacts({ row }) {
  const { machine, state, code, outcome, text, attempt, cpu, memory, pid, version, receipt, late, length } = row;
  const parts = [
    code !== '' && `code ${code}`,
    outcome && outcome !== 'exited' && text,
    attempt > 1 && `attempt ${attempt}`,
    length > 0 && bytes(length),
    cpu !== null && `${span(cpu * 1000)} CPU`,
    memory > 0 && `${bytes(memory)} memory`,
    pid !== '' && `PID ${pid}`,
    version && `wrapper ${version}`,
    late && `reported later: code ${late.retcode}`,
    receipt && described(receipt),
  ].filter(Boolean);
  return html`<header class="machine-facts"><b>${machine}</b> <${State} state=${state} /> <span class="muted">${parts.join(' · ')}</span></header>`;
}
