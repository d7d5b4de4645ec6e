// One job: what is written, what comes, what was.

import { inWords } from '../crontext.js';
import { useKeys } from '../keys.js';
import { Matrix } from '../matrix.js';
import { runNow } from '../operations.js';
import { At, Countdown, Empty, Failure, Lasting, Mark, plural, State, stateOfVerdict } from '../parts.js';
import { runAddress } from '../route.js';
import { ask, mayAct, shownZone, useAnswer, useSession } from '../session.js';
import { inFull, instantOf, span } from '../times.js';
import { html, useState } from '../ui.js';

const HISTORY = 100;
const STRIP = 50;
const NEXT = 10;
const PASSED = 8;
const PASSED_APART_MS = 5000;

export function JobPage({ route }) {
  const { model } = useSession();
  const [name] = route.names;
  const job = model.jobs.get(name);
  const run = () => job && runNow(job);
  useKeys({ r: run });
  const last = model.last.get(name);
  const living = model.runningByJob.get(name) ?? [];
  const again = `${last?.run} ${last?.verdict} ${living.length}`;
  return html`<div class="page job">
    <header class="title">
      <h1>${name}</h1>
      ${living.length > 0 ? html`<${State} state="running" />` : last?.startedAt && html`<${State} state=${stateOfVerdict(last.verdict || 'success')} />`}
      ${job && !job.enabled && html`<span class="tag">disabled</span>`}
      <span class="fill"></span>
      ${job && mayAct() && html`<button class="primary" onClick=${run}>Run now</button>`}
    </header>
    ${job?.written.description && html`<p class="lead">${job.written.description}</p>`}
    <div class="columns wide-first">
      <div>
        <${History} name=${name} again=${again} />
        <${Matrix} name=${name} again=${again} />
      </div>
      <div>
        ${job ? html`<${Definition} job=${job} />` : html`<p class="notice">The configuration has no job of this name (any more).</p>`}
        ${job && html`<${Next} job=${job} again=${`${last?.nextAt} ${model.jobsVersion}`} />`}
        ${job && html`<${NotRun} name=${name} again=${again} />`}
        ${job && html`<${Why} name=${name} />`}
      </div>
    </div>
  </div>`;
}

function Definition({ job }) {
  return html`<section>
    <h2>Definition</h2>
    <p class="muted source"><code>${job.path}${job.line ? `:${job.line}` : ''}</code></p>
    <dl class="keys">
      ${Object.entries(job.written).map(([key, value]) => html`<dt>${key}</dt><dd class="written">${asWritten(value)}</dd>`)}
    </dl>
  </section>`;
}

function asWritten(value) {
  if (Array.isArray(value)) return value.map(asWritten).join(', ');
  if (value === null || typeof value !== 'object') return String(value);
  return Object.entries(value).map(([key, each]) => `${key}: ${asWritten(each)}`).join('\n');
}

const NOTES = {
  gap: 'its own time is left out that day: the clocks go forward',
  first: 'the clocks go back, and show this time twice: this is the first',
  second: 'the clocks go back, and show this time twice: this is the second',
};

function Next({ job, again }) {
  const { result, error } = useAnswer('next', { cron: job.name, count: NEXT }, again);
  const slots = result?.slots ?? [];
  const words = inWords(job.schedule);
  return html`<section>
    <h2>Next runs</h2>
    ${error && html`<${Failure} error=${error} />`}
    ${words && html`<p class="muted">${words}${slots.length > 0 && `, ${slots[0].zone}`}</p>`}
    ${result && slots.length === 0 && html`<${Empty}>It is not due any more.<//>`}
    <ol class="list slots">
      ${slots.map((slot, place) => html`<${Slot} key=${slot.slot} slot=${slot} before=${slots[place - 1]} />`)}
    </ol>
  </section>`;
}

/** A coming run, with what its zone's clock shows where that is not what the page shows, and what the clocks do before it. */
function Slot({ slot: { slot, local, zone, note }, before }) {
  const at = Date.parse(slot);
  const wall = local.slice(0, 19).replace('T', ' ');
  const changed = before !== undefined && before.local.slice(19) !== local.slice(19);
  const said = NOTES[note] ?? (changed ? `the clocks have changed: now UTC${local.slice(19)}` : '');
  return html`<li>
    <span class="fill"><${At} at=${at} />${!inFull(at, shownZone()).startsWith(wall) && html` <span class="muted">${wall} ${zone}</span>`}
      ${said && html`<br /><span class="note">${said}</span>`}</span>
    <span class="number muted"><${Countdown} at=${at} /></span>
  </li>`;
}

/** Slots that did not run, and why. */
function NotRun({ name, again }) {
  const { result } = useAnswer('getPassed', { cron: name, limit: PASSED }, again, PASSED_APART_MS);
  const passed = result?.passed ?? [];
  if (passed.length === 0) return null;
  return html`<section>
    <h2>Did not run</h2>
    <ol class="list slots">${passed.map(({ first, last, slots, text, reason }) => html`<li key=${first + reason}>
      <${Mark} state="skipped" word="did not run" />
      <span class="fill"><${At} at=${Date.parse(first)} />${last !== first && html` to <${At} at=${Date.parse(last)} /> <span class="muted">(${plural(slots, 'slot')})</span>`}
        <br /><span class="muted">${text || reason}</span></span>
    </li>`)}</ol>
  </section>`;
}

function History({ name, again }) {
  const { result, error } = useAnswer('getRuns', { cron: name, limit: HISTORY }, again);
  const runs = result?.runs ?? [];
  return html`<section>
    <h2>History <span class="count">${runs.length === HISTORY ? `last ${HISTORY}` : runs.length || ''}</span></h2>
    ${error && html`<${Failure} error=${error} />`}
    ${result && runs.length === 0 && html`<${Empty}>It has not run yet.<//>`}
    ${runs.length > 1 && html`<${Strip} runs=${runs} />`}
    ${runs.length > 0 && html`<div class="scroll-x boxed"><table>
      <thead><tr><th>Started</th><th>Result</th><th class="number">Took</th><th class="number">Machines</th><th>By</th></tr></thead>
      <tbody>${runs.map((run) => html`<${Past} key=${run.job_instance} run=${run} />`)}</tbody>
    </table></div>`}
  </section>`;
}

function Past({ run }) {
  const started = Date.parse(run.started);
  return html`<tr>
    <td><a href=${runAddress(run.job_instance)}><${At} at=${started} /></a></td>
    <td><${State} state=${stateOfVerdict(run.verdict)} /> <span class="muted">${run.text}</span></td>
    <td class="number"><${Lasting} from=${started} to=${run.ended ? Date.parse(run.ended) : null} /></td>
    <td class="number">${run.failed ? html`<b>${run.failed} failed</b> of ` : ''}${run.machines}</td>
    <td class="muted">${run.by}</td>
  </tr>`;
}

/** How long the latest runs took, oldest first; what failed stands out by colour and by a foot. */
function Strip({ runs }) {
  const shown = runs.slice(0, STRIP).reverse();
  const took = ({ started, ended }) => (ended ? Date.parse(ended) - Date.parse(started) : 0);
  const longest = Math.max(...shown.map(took), 1);
  return html`<div class="strip" role="group" aria-label=${`How long the last ${shown.length} runs took; the longest ${span(longest)}`}>
    ${shown.map((run) => html`<a key=${run.job_instance} tabindex="-1" href=${runAddress(run.job_instance)} class=${stateOfVerdict(run.verdict)}
      ...${named(`${inFull(Date.parse(run.started), shownZone())}: ${run.verdict || 'running'}, ${span(took(run))}`)}>
      <i style=${{ height: `${Math.max(8, (100 * took(run)) / longest)}%` }}></i>
    </a>`)}
  </div>`;
}

const named = (text) => ({ title: text, 'aria-label': text });

const ANSWERS = { ran: 'ok', passed: 'skipped', not_due: 'waiting', down: 'lost', unknown_job: 'skipped', pending: 'waiting' };

/** Every slot has an answer: why it ran, or did not. */
function Why({ name }) {
  const [answer, setAnswer] = useState(null);
  const look = async (event) => {
    event.preventDefault();
    const at = new FormData(event.target).get('at');
    const value = { cron: name, at: at ? new Date(instantOf(at, shownZone())).toISOString() : 'now' };
    setAnswer(await ask('why', value).then((result) => ({ result }), (error) => ({ error })));
  };
  return html`<section>
    <h2>Why (not)?</h2>
    <form class="why" onSubmit=${look}>
      <label>At <input type="datetime-local" name="at" step="1" /></label><span class="muted">${shownZone() || 'local time'}</span>
      <button>Ask</button>
    </form>
    <div role="status">
      ${answer?.error && html`<${Failure} error=${answer.error} />`}
      ${answer?.result && html`<p class="answer"><${Mark} state=${ANSWERS[answer.result.answer] ?? 'waiting'} word="" /> <span>
        ${answer.result.text}${' '}
        ${answer.result.job_instance && html`<a href=${runAddress(answer.result.job_instance)}>See the run</a>`}</span></p>`}
    </div>
  </section>`;
}
