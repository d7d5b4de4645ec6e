// Is all well? What is wrong, what runs, what failed, what comes.

import { glanceAt, Progress } from '../glances.js';
import { failing } from '../model.js';
import { Ago, Countdown, Empty, Failure, Lasting, Mark, plural, stateOfVerdict } from '../parts.js';
import { address, jobAddress, runAddress } from '../route.js';
import { now, useAnswer, useKept, useNow, useSession } from '../session.js';
import { bytes, span } from '../times.js';
import { html } from '../ui.js';

const FAILED_APART_MS = 5000;
const SHOWN = 50;
const HEALTH_APART_MS = 15_000;
const LATE_S = 5;
const VERY_LATE_S = 60;
const STALLED_S = 0.5;
const LITTLE_BYTES = 2 ** 30;

export function NowPage() {
  const { model } = useSession();
  const { result: health, error } = useHealth();
  const bad = failing(model);
  return html`<div class="page now">
    <h1>${headline(model, bad, health)}</h1>
    ${error && html`<${Failure} error=${error} />`}
    ${health && html`<${Health} health=${health} model=${model} />`}
    ${model.storeProblem && html`<p class="notice"><${Mark} state="failed" word="error" />
      No run starts: ${model.storeProblem}</p>`}
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

function headline(model, bad, health) {
  const fatal = model.problems.filter((each) => each.fatal).length;
  const parts = [
    ...broken(model, health).map((name) => BROKEN[name] ?? `${name} is not well`),
    bad.length && `${plural(bad.length, 'job')} failing`,
    fatal && plural(fatal, 'config problem'),
    model.running.size && `${plural(model.running.size, 'run')} going on`,
  ].filter(Boolean);
  const said = parts.length ? parts.join(', ') : `All quiet: ${plural(model.jobs.size, 'job')}, none failing`;
  return said[0].toUpperCase() + said.slice(1);
}

/** The parts of the daemon that are not well. Of the store it tells by itself, of the others when it is asked. */
function broken(model, health) {
  const found = Object.entries(health?.checks ?? {}).filter(([, { ok }]) => !ok).map(([name]) => name);
  return model.storeProblem && !found.includes('store') ? ['store', ...found] : found;
}

const BROKEN = { salt: 'Salt does not answer', store: 'the store cannot be written' };

/** How the daemon fares, asked now and then while somebody looks. */
function useHealth() {
  const turn = Math.floor(useNow() / HEALTH_APART_MS);
  return useKept(useAnswer('health', true, document.hidden ? 0 : turn, HEALTH_APART_MS / 2));
}

function Health({ health, model }) {
  const { checks, slots, late, lag, store, since } = health;
  const fatal = model.problems.filter((each) => each.fatal).length;
  return html`<ul class="health" aria-label="How the daemon fares">
    ${checks.salt && html`<${Sign} name="Salt" state=${checks.salt.ok ? 'ok' : 'failed'}>${checks.salt.ok ? 'answers' : checks.salt.text}<//>`}
    ${slots !== null && html`<${Sign} name="Slots" state=${slots === 0 ? 'waiting' : late > VERY_LATE_S ? 'failed' : late > LATE_S ? 'paused' : 'ok'}>
      ${slots === 0 ? 'none in the last hour' : html`${slots.toLocaleString('en')} in the last hour, at most ${span(late * 1000)} late`}<//>`}
    <${Sign} name="Daemon" state=${lag > STALLED_S ? 'paused' : 'ok'}>
      ${lag > STALLED_S ? `stalled for ${span(lag * 1000)} in the last hour` : lag === null ? 'here' : 'quick'}${since && html`, up for <${Lasting} from=${Date.parse(since)} />`}<//>
    <${Sign} name="Store" state=${!checks.store.ok ? 'failed' : store?.free_bytes < LITTLE_BYTES || store?.set_aside ? 'paused' : 'ok'}>
      ${checks.store.ok && store ? `${bytes(store.ledger_bytes + store.output_bytes)} used, ${bytes(store.free_bytes)} of the disk free` : checks.store.text}
      ${store?.set_aside > 0 && `; ${plural(store.set_aside, 'damaged file')} put aside`}<//>
    <${Sign} name="Configuration" state=${fatal ? 'failed' : model.problems.length ? 'paused' : 'ok'}>
      ${plural(model.jobs.size, 'job')}, ${model.problems.length ? plural(model.problems.length, 'problem') : 'no problems'}<//>
  </ul>`;
}

const SAID = { ok: 'well', waiting: 'nothing to tell', paused: 'look at this', failed: 'not well' };

function Sign({ name, state, children }) {
  return html`<li><${Mark} state=${state} word=${SAID[state]} /><b>${name}</b><span class="muted">${children}</span></li>`;
}

function Maintenance({ maintenance }) {
  if (maintenance.global) return html`<p class="notice"><${Mark} state="paused" word="maintenance" />Maintenance: no new runs start.</p>`;
  if (maintenance.machines.length === 0) return null;
  return html`<p class="notice"><${Mark} state="paused" word="maintenance" />
    <a href=${address('machines', [], { filter: 'maintenance' })}>${plural(maintenance.machines.length, 'machine')} under maintenance</a>: ${maintenance.machines.slice(0, 12).join(', ')}${maintenance.machines.length > 12 ? ' …' : ''}</p>`;
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
  const now = useNow();
  const living = [...model.running.values()].sort((one, other) => one.startedAt - other.startedAt);
  return html`<section>
    <h2>Running <span class="count">${living.length || ''}</span></h2>
    ${living.length === 0 && html`<${Empty}>Nothing runs.<//>`}
    <ul class="list">
      ${living.slice(0, SHOWN).map(({ run, job, startedAt, open, targets, failed }) => html`<li key=${run}>
        <${Mark} state="running" /><a href=${runAddress(run)}>${job}</a>
        <span class="fill muted">${targets ? `${open} of ${plural(targets, 'machine')}` : 'looking for its machines'}${failed ? html`, <b class="bad">${failed} failed</b>` : ''}</span>
        <${Progress} startedAt=${startedAt} usual=${glanceAt(model, job)?.usual} now=${now} />
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
