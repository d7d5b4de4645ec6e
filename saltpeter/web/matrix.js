// How a job's last runs went on each of its machines: a row for each machine, a column for each run, the newest at the right.

import { Empty, Failure, stateOfOutcome, stateOfVerdict, WORDS } from './parts.js';
import { runAddress } from './route.js';
import { shownZone, useAnswer } from './session.js';
import { inFull } from './times.js';
import { html } from './ui.js';

const RUNS = 20;
const MACHINES = 100;
const APART_MS = 5000;
const SIGNS = { ok: '✓', failed: '×', running: '▸', killed: '■', timeout: '⧗', lost: '?', skipped: '–' };

/** `again` changes when a run has begun or ended. */
export function Matrix({ name, again }) {
  const { result, error } = useAnswer('getMatrix', { cron: name, count: RUNS, machines: MACHINES }, again, APART_MS);
  const machines = Object.entries(result?.machines ?? {});
  const runs = [...(result?.runs ?? [])].reverse();
  return html`<section>
    <h2>Machines <span class="count">${result?.total ? result.total.toLocaleString('en') : ''}</span></h2>
    ${error && html`<${Failure} error=${error} />`}
    ${result && machines.length === 0 && html`<${Empty}>No machine has taken part yet.<//>`}
    ${machines.length > 0 && html`<div class="scroll-x boxed" tabindex="0" role="region" aria-label="Last runs on each machine"><table class="matrix">
      <thead><tr><th scope="col">Worst first</th>${runs.map((run) => html`<th scope="col"><${Run} run=${run} /></th>`)}</tr></thead>
      <tbody>${machines.map(([machine, cells]) => html`<tr key=${machine}>
        <th scope="row">${machine}</th>${[...cells].reverse().map((cell, place) => html`<td><${Cell} cell=${cell} machine=${machine} run=${runs[place]} /></td>`)}
      </tr>`)}</tbody>
    </table></div>
    ${result.total > machines.length && html`<p class="muted">and ${(result.total - machines.length).toLocaleString('en')} more that failed no more often</p>`}`}
  </section>`;
}

const titleOf = ({ started }) => inFull(Date.parse(started), shownZone());

function Run({ run }) {
  const state = stateOfVerdict(run.verdict);
  const said = `${titleOf(run)}: ${WORDS[state]}`;
  return html`<a class="cell ${state}" href=${runAddress(run.job_instance)} title=${said} aria-label=${said}><i></i></a>`;
}

function Cell({ cell, machine, run }) {
  if (!cell) return html`<span class="unseen">no part</span>`;
  const state = cell.outcome ? stateOfOutcome(cell.outcome, cell.retcode) : 'running';
  const said = `${machine}, ${titleOf(run)}: ${WORDS[state]}${cell.retcode === null ? '' : `, code ${cell.retcode}`}`;
  return html`<a class="cell ${state}" tabindex=${state === 'ok' ? '-1' : null} href=${runAddress(run.job_instance, { m: machine })} title=${said} aria-label=${said}>${SIGNS[state]}</a>`;
}
