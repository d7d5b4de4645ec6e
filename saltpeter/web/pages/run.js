// One run, live: its machines by state, the output of one of them, and what can be done to them.

import { useKeys } from '../keys.js';
import { grouped, LIVING, machinesOf } from '../machines.js';
import { described, halt, kill } from '../operations.js';
import { OutputPanel } from '../output.js';
import { Ago, At, Empty, Failure, Lasting, Mark, State, stateOfVerdict, WORDS } from '../parts.js';
import { jobAddress, jobOfRun, runAddress } from '../route.js';
import { adjust, mayAct, useRun, useSession } from '../session.js';
import { bytes, span } from '../times.js';
import { html, useMemo, useState } from '../ui.js';
import { Windowed } from '../windowed.js';

const ROW = 30;
const FEW = 12; // machines that need no search field

export function RunPage({ route }) {
  const { model } = useSession();
  const [run] = route.names;
  const job = jobOfRun(run);
  const { told, error } = useRun(job, run);
  const living = model.running.get(run);
  const result = told?.run;
  const machines = useMemo(() => machinesOf(told), [told]);
  const [query, setQuery] = useState('');
  const [picked, choose] = useState(new Set());
  const rows = useMemo(() => grouped(machines, query), [machines, query]);
  const chosen = useMemo(() => chosenOf(machines, picked), [machines, picked]);
  const ended = result?.ended;
  const verdict = result?.verdict || '';
  const open = route.query.m ?? rows.find((row) => !row.heading)?.machine;
  const row = machines.find((each) => each.machine === open);
  const show = (machine) => adjust(runAddress(run, { m: machine }));
  const actions = useActions({ job, run, machines, chosen, isLiving: !ended });
  useRunKeys({ rows, open, show, chosen, choose, actions });
  if (error && !living) return html`<div class="page"><h1>${run}</h1><${Failure} error=${error} /></div>`;
  return html`<div class="page run">
    <header class="title">
      <h1><a href=${jobAddress(job)}>${job}</a></h1>
      <${State} state=${ended ? stateOfVerdict(verdict) : 'running'} />
      <span class="fill"></span>
      ${!ended && html`<${Buttons} actions=${actions} count=${chosen.size} />`}
    </header>
    <${Facts} run=${run} result=${result} living=${living} machines=${machines} />
    ${result?.text && html`<p class="notice">${result.text}</p>`}
    <div class="split">
      <section class="fleet" aria-label="Machines">
        ${machines.length > FEW && html`<div class="tools"><input type="search" value=${query} aria-label="Search machines" placeholder="Search machines  ( / )"
          onInput=${(event) => setQuery(event.target.value)} /></div>`}
        <${Fleet} rows=${rows} open=${open} show=${show} chosen=${chosen} choose=${choose} />
        ${machines.length === 0 && html`<${Empty}>${ended ? 'No machine took part.' : 'Waiting for the machines…'}<//>`}
      </section>
      <section class="output" aria-label="Output">
        ${row && html`<${MachineFacts} row=${row} />`}
        ${row && html`<${OutputPanel} key=${`${run} ${open}`} job=${job} run=${run} machine=${open} />`}
      </section>
    </div>
  </div>`;
}

/** What can be done, to the machines that are chosen or to all that live. */
function useActions({ job, run, machines, chosen, isLiving }) {
  const livingOnes = machines.filter(({ state }) => LIVING.has(state)).map(({ machine }) => machine);
  const hit = chosen.size ? [...chosen] : livingOnes;
  const part = { job, run, hit, machines: chosen.size ? hit : null };
  const act = (does) => () => isLiving && does();
  return { kill: act(() => kill(part)), pause: act(() => halt('pause', part)), resume: act(() => halt('resume', part)) };
}

/** Of the machines that were picked, those that can still be acted on. */
function chosenOf(machines, picked) {
  return new Set(machines.filter(({ machine, state }) => picked.has(machine) && LIVING.has(state)).map(({ machine }) => machine));
}

function useRunKeys({ rows, open, show, chosen, choose, actions }) {
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
    x: () => open && choose(toggled(chosen, open)),
    K: actions.kill,
    p: actions.pause,
    c: actions.resume,
    '/': () => document.querySelector('.fleet input[type=search]')?.focus(),
    Escape: () => (document.activeElement.blur(), choose(new Set())),
  });
}

function toggled(set, name) {
  const next = new Set(set);
  if (!next.delete(name)) next.add(name);
  return next;
}

function Buttons({ actions, count }) {
  if (!mayAct()) return null;
  const on = count ? ` ${count}` : ' all';
  return html`<div class="buttons" role="group" aria-label="Actions">
    <button onClick=${actions.pause}>Pause${on}</button>
    <button onClick=${actions.resume}>Resume${on}</button>
    <button class="danger" onClick=${actions.kill}>Kill${on}</button>
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

function Fleet({ rows, open, show, chosen, choose }) {
  const at = rows.findIndex((row) => row.machine === open);
  const draw = (index) => {
    const row = rows[index];
    if (row.heading) return html`<div key=${`: ${row.state}`} class="row heading" role="row"><span role="gridcell">${capital(WORDS[row.state])} <span class="count">${row.count}</span></span></div>`;
    return html`<${MachineRow} key=${row.machine} row=${row} selected=${row.machine === open} show=${show}
      chosen=${chosen.has(row.machine)} choose=${() => choose(toggled(chosen, row.machine))} />`;
  };
  return html`<${Windowed} class="table machines" role="grid" aria-label="Machines" aria-rowcount=${rows.length} tabindex="0"
    count=${rows.length} rowHeight=${ROW} row=${draw} selected=${at} headHeight=${ROW}
    head=${html`<div class="row head" role="row">
      <span></span><span></span><span role="columnheader">Machine</span><span role="columnheader" class="number">Code</span>
      <span role="columnheader" class="number">Time</span><span role="columnheader" class="number">Heard</span>
      <span role="columnheader" class="number">PID</span><span role="columnheader" class="number">Version</span>
    </div>`} />`;
}

function MachineRow({ row, selected, show, chosen, choose }) {
  const { machine, state, code, startedAt, endedAt, heartbeatAt, pid, version, late } = row;
  return html`<div class=${`row ${selected ? 'selected' : ''}`} role="row" aria-selected=${String(selected)} onClick=${() => show(machine)}>
    <span role="gridcell"><input type="checkbox" checked=${chosen} disabled=${!LIVING.has(state)} aria-label=${`Choose ${machine}`}
      onClick=${(event) => event.stopPropagation()} onChange=${choose} /></span>
    <span role="gridcell"><${Mark} state=${state} /></span>
    <span role="gridcell" class="machine"><button class="plain">${machine}</button></span>
    <span role="gridcell" class="number code">${code}${late ? html`<span title="what it reported after it had been given up">→${late.retcode}</span>` : ''}</span>
    <span role="gridcell" class="number">${startedAt && html`<${Lasting} from=${startedAt} to=${endedAt} />`}</span>
    <span role="gridcell" class="number muted">${heartbeatAt && !endedAt ? html`<${Ago} at=${heartbeatAt} />` : endedAt ? html`<${Ago} at=${endedAt} />` : ''}</span>
    <span role="gridcell" class="number muted">${pid}</span>
    <span role="gridcell" class="number muted">${version}</span>
  </div>`;
}

function MachineFacts({ row }) {
  const { machine, state, code, outcome, text, attempt, usage, receipt, late, length } = row;
  const parts = [
    code !== '' && `code ${code}`,
    outcome && outcome !== 'exited' && text,
    attempt > 1 && `attempt ${attempt}`,
    length > 0 && bytes(length),
    usage?.cpu !== undefined && `${span(usage.cpu * 1000)} CPU`,
    late && `reported later: code ${late.retcode}`,
    receipt && described(receipt),
  ].filter(Boolean);
  return html`<header class="machine-facts"><b>${machine}</b> <${State} state=${state} /> <span class="muted">${parts.join(' · ')}</span></header>`;
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);
