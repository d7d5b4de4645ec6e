// Is all well? What is wrong, what runs, what failed, what comes.

import { failing } from '../model.js';
import { Ago, Countdown, Empty, Failure, Lasting, Mark, plural, stateOfVerdict } from '../parts.js';
import { address, jobAddress, runAddress } from '../route.js';
import { now, useAnswer, useSession } from '../session.js';
import { html } from '../ui.js';

const FAILED_APART_MS = 5000;
const SHOWN = 50;

export function NowPage() {
  const { model } = useSession();
  const bad = failing(model);
  return html`<div class="page now">
    <h1>${headline(model, bad)}</h1>
    <${Maintenance} maintenance=${model.maintenance} />
    <${Problems} problems=${model.problems} />
    <div class="columns">
      <div>
        <${Running} model=${model} />
        <${Failed} model=${model} />
      </div>
      <${ComingNext} model=${model} />
    </div>
  </div>`;
}

function headline(model, bad) {
  const fatal = model.problems.filter((each) => each.fatal).length;
  const parts = [
    bad.length && `${plural(bad.length, 'job')} failing`,
    fatal && plural(fatal, 'config problem'),
    model.running.size && `${plural(model.running.size, 'run')} going on`,
  ].filter(Boolean);
  return parts.length ? parts.join(', ') : `All quiet: ${plural(model.jobs.size, 'job')}, none failing`;
}

function Maintenance({ maintenance }) {
  if (maintenance.global) return html`<p class="notice"><${Mark} state="paused" word="maintenance" />Maintenance: no new runs start.</p>`;
  if (maintenance.machines.length === 0) return null;
  return html`<p class="notice"><${Mark} state="paused" word="maintenance" />
    Under maintenance: ${maintenance.machines.join(', ')}</p>`;
}

function Problems({ problems }) {
  if (problems.length === 0) return null;
  return html`<section>
    <h2>Configuration</h2>
    <ul class="list problems">
      ${problems.slice(0, SHOWN).map(({ path, line, job, key, text, fatal }) => html`<li>
        <${Mark} state=${fatal ? 'failed' : 'waiting'} word=${fatal ? 'error' : 'warning'} />
        <span><code>${path}${line ? `:${line}` : ''}</code> ${[job, key].filter(Boolean).join('.')}<br />${text}</span>
      </li>`)}
    </ul>
  </section>`;
}

function Running({ model }) {
  const living = [...model.running.values()].sort((one, other) => one.startedAt - other.startedAt);
  return html`<section>
    <h2>Running <span class="count">${living.length || ''}</span></h2>
    ${living.length === 0 && html`<${Empty}>Nothing runs.<//>`}
    <ul class="list">
      ${living.slice(0, SHOWN).map(({ run, job, startedAt, open, targets }) => html`<li key=${run}>
        <${Mark} state="running" /><a href=${runAddress(run)}>${job}</a>
        <span class="fill muted">${open} of ${plural(targets, 'machine')}</span>
        <span class="number"><${Lasting} from=${startedAt} /></span>
      </li>`)}
    </ul>
    ${living.length > SHOWN && html`<p><a href=${address('jobs', [], { filter: 'running' })}>All ${living.length}</a></p>`}
  </section>`;
}

function Failed({ model }) {
  const marks = [...model.last.values()].reduce((sum, { run }) => sum + (run ? 1 : 0), model.running.size);
  const newest = failing(model).map(({ name }) => model.last.get(name).run).join();
  const { result, error } = useAnswer('getRuns', { failed: true, since: 'now-1d', limit: SHOWN }, `${marks} ${newest}`, FAILED_APART_MS);
  const runs = result?.runs ?? [];
  return html`<section>
    <h2>Failed in the last day <span class="count">${runs.length === SHOWN ? `${SHOWN}+` : runs.length || ''}</span></h2>
    ${error && html`<${Failure} error=${error} />`}
    ${result && runs.length === 0 && html`<${Empty}>No run has failed.<//>`}
    <ul class="list">
      ${runs.map((run) => html`<li key=${run.job_instance}>
        <${Mark} state=${stateOfVerdict(run.verdict)} /><a href=${runAddress(run.job_instance)}>${run.cron}</a>
        <span class="fill muted">${told(run)}</span>
        <span class="number"><${Ago} at=${Date.parse(run.started)} /></span>
      </li>`)}
    </ul>
  </section>`;
}

const told = ({ text, failed, machines }) => text || (machines ? `${failed} of ${plural(machines, 'machine')}` : 'no targets');

function ComingNext({ model }) {
  const soon = [...model.last]
    .filter(([name, { nextAt }]) => nextAt !== null && nextAt > now() - 2000 && model.jobs.get(name)?.enabled)
    .sort(([, one], [, other]) => one.nextAt - other.nextAt);
  return html`<section>
    <h2>Coming next</h2>
    ${soon.length === 0 && html`<${Empty}>No job is due.<//>`}
    <ul class="list">
      ${soon.slice(0, 15).map(([name, { nextAt }]) => html`<li key=${name}>
        <a href=${jobAddress(name)}>${name}</a>
        <span class="fill muted">${model.jobs.get(name).targets}</span>
        <span class="number"><${Countdown} at=${nextAt} /></span>
      </li>`)}
    </ul>
  </section>`;
}
