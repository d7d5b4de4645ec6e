// All the jobs: found as one types, filtered, sorted. Only the rows in sight exist.

import { useKeys } from '../keys.js';
import { isFailing } from '../model.js';
import { Ago, Countdown, Empty, Mark, plural, stateOfVerdict } from '../parts.js';
import { address, jobAddress, runAddress } from '../route.js';
import { FILTERS, filters, find } from '../search.js';
import { adjust, useSession } from '../session.js';
import { html, useMemo, useRef, useState } from '../ui.js';
import { Windowed } from '../windowed.js';

const COLUMNS = [
  ['name', 'Job'],
  ['group', 'Group'],
  [null, 'Schedule'],
  ['next', 'Next'],
  ['last', 'Last'],
  ['running', 'Running'],
];
const HEAD = 32;
const narrow = matchMedia('(max-width: 720px)');
const rowHeight = () => (narrow.matches ? 60 : 34);

export function JobsPage({ route }) {
  const { model } = useSession();
  const { q: query = '', filter = 'all', sort = 'name' } = route.query;
  const [selected, select] = useState(-1);
  const search = useRef(null);
  const jobs = useMemo(() => find(model, { query, filter, sort }), [model.version, query, filter, sort]);
  const counts = useMemo(() => countAll(model), [model.version]);
  const change = (changes) => {
    const { q, filter: only, sort: by } = { q: query, filter, sort, ...changes };
    adjust(address('jobs', [], { q, filter: only === 'all' ? '' : only, sort: by === 'name' ? '' : by }));
    select(-1);
  };
  const move = (by) => () => select(Math.max(0, Math.min(jobs.length - 1, selected + by)));
  useKeys({
    '/': () => search.current.focus(),
    j: move(1),
    k: move(-1),
    ArrowDown: move(1),
    ArrowUp: move(-1),
    Enter: () => jobs.length && (location.hash = jobAddress(jobs[Math.max(0, selected)].name)),
    Escape: () => (document.activeElement === search.current ? search.current.blur() : change({ q: '' })),
  });
  return html`<div class="page jobs">
    <h1 class="unseen">Jobs</h1>
    <div class="tools">
      <input ref=${search} type="search" value=${query} placeholder="Search name, command, group, targets, tags  ( / )"
        aria-label="Search jobs" maxlength="200" spellcheck="false" onInput=${(event) => change({ q: event.target.value })} />
      <div class="choices" role="group" aria-label="Show">
        ${FILTERS.map((each) => html`<button aria-pressed=${String(each === filter)} onClick=${() => change({ filter: each })}>
          ${each} <span class="count">${counts[each].toLocaleString('en')}</span>
        </button>`)}
      </div>
      <p class="muted" role="status">${jobs.length === model.jobs.size ? plural(jobs.length, 'job') : `${jobs.length.toLocaleString('en')} of ${plural(model.jobs.size, 'job')}`}</p>
    </div>
    <${Windowed} class="table" role="grid" aria-label="Jobs" aria-rowcount=${jobs.length + 1} tabindex="0"
      aria-activedescendant=${selected < 0 ? null : `row-${selected}`}
      count=${jobs.length} rowHeight=${rowHeight()} selected=${selected} headHeight=${HEAD}
      head=${html`<${Head} sort=${sort} change=${change} />`}
      row=${(index) => html`<${Row} key=${jobs[index].name} index=${index} job=${jobs[index]} model=${model} selected=${index === selected} />`} />
    ${jobs.length === 0 && html`<${Empty}>${model.jobs.size ? 'No job is like that.' : 'There are no jobs yet: conf.d holds none.'}<//>`}
  </div>`;
}

const countAll = (model) => {
  const jobs = [...model.jobs.values()];
  return Object.fromEntries(FILTERS.map((each) => [each, jobs.filter((job) => filters[each](model, job)).length]));
};

function Head({ sort, change }) {
  const by = sort.replace('-', '');
  const down = sort.startsWith('-');
  const direction = (column) => (column === by ? (down ? 'descending' : 'ascending') : null);
  return html`<div class="row head" role="row" aria-rowindex="1">
    ${COLUMNS.map(([column, title]) => html`<span role="columnheader" aria-sort=${direction(column)} class=${`cell-${title.toLowerCase()}`}>
      ${column ? html`<button class="quiet" onClick=${() => change({ sort: column === by && !down ? `-${column}` : column })}>
        ${title}${column === by && html`<span aria-hidden="true">${down ? ' ↑' : ' ↓'}</span>`}
      </button>` : title}
    </span>`)}
  </div>`;
}

function Row({ index, job, model, selected }) {
  const last = model.last.get(job.name);
  const living = model.runningByJob.get(job.name) ?? [];
  const classes = ['row', selected && 'selected', !job.enabled && 'disabled', isFailing(model, job) && 'failing'];
  return html`<div id=${`row-${index}`} role="row" aria-rowindex=${index + 2} aria-selected=${String(selected)}
    class=${classes.filter(Boolean).join(' ')}>
    <span role="gridcell" class="cell-job"><a href=${jobAddress(job.name)} tabindex="-1">${job.name}</a>
      <span class="muted description">${job.written.description ?? ''}</span></span>
    <span role="gridcell" class="cell-group muted">${job.group}</span>
    <span role="gridcell" class="cell-schedule written">${job.schedule}</span>
    <span role="gridcell" class="cell-next number">${job.enabled ? html`<${Countdown} at=${last?.nextAt} />` : html`<span class="muted">disabled</span>`}</span>
    <span role="gridcell" class="cell-last">${last?.startedAt && html`<${LastRun} last=${last} running=${living.length > 0} />`}</span>
    <span role="gridcell" class="cell-running">${living.length > 0 && html`<${Living} living=${living} />`}</span>
  </div>`;
}

function LastRun({ last, running }) {
  const state = running && !last.verdict ? 'running' : last.ok ? 'ok' : stateOfVerdict(last.verdict || 'failed');
  const shown = html`<${Mark} state=${state} /> <${Ago} at=${last.startedAt} />`;
  return last.run ? html`<a class="plain" tabindex="-1" href=${runAddress(last.run)}>${shown}</a>` : shown;
}

function Living({ living }) {
  const [{ run, machines, targets }] = living;
  return html`<a class="plain" tabindex="-1" href=${runAddress(run)}>
    <${Mark} state="running" /> ${machines.length} of ${targets}${living.length > 1 ? ` (${living.length} runs)` : ''}
  </a>`;
}
