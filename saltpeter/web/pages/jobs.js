// All the jobs: found as one types, filtered, sorted. Only the rows in sight exist.

import { inWords } from '../crontext.js';
import { glanceAt, Progress, Results } from '../glances.js';
import { useKeys } from '../keys.js';
import { isFailing } from '../model.js';
import { Ago, Countdown, Empty, Mark, plural, SearchField, stateOfVerdict } from '../parts.js';
import { address, jobAddress, runAddress } from '../route.js';
import { countAll, FILTERS, find, groupsOf } from '../search.js';
import { adjust, preference, prefer, useNow, useSession } from '../session.js';
import { span } from '../times.js';
import { html, useMemo, useRef, useState } from '../ui.js';
import { Windowed } from '../windowed.js';

// what a column is called, by what it sorts, how wide it is in pixels and by its share of what is left, and what it holds
const COLUMNS = {
  job: { title: 'Job', sort: 'name', least: 190, share: 3, cell: Name },
  group: { title: 'Group', sort: 'group', least: 80, share: 1, cell: ({ job }) => html`<span class="muted">${job.group}</span>` },
  schedule: { title: 'Schedule', least: 130, share: 1.6, cell: Schedule },
  next: { title: 'Next', sort: 'next', least: 86, cell: Next },
  last: { title: 'Last', sort: 'last', least: 104, cell: LastRun },
  results: { title: 'Results', least: 124, cell: ({ glance }) => glance?.runs.length > 0 && html`<${Results} runs=${glance.runs} />` },
  usual: { title: 'Usually', least: 68, cell: ({ glance }) => html`<span class="number">${glance?.usual ? span(glance.usual) : ''}</span>` },
  running: { title: 'Running', sort: 'running', least: 150, cell: Living },
};
const CHOOSABLE = Object.keys(COLUMNS).slice(1);
const HEAD = 32;
const GAP = 14;
const narrow = matchMedia('(max-width: 720px)');
const middling = matchMedia('(max-width: 1180px)');
const rowHeight = () => (narrow.matches ? 60 : 34);

/** The columns to show: as the address says, else as they were chosen last, else as the window has room. */
function columnsOf(asked) {
  const chosen = asked ?? (preference('columns') || null);
  if (chosen === null) return CHOOSABLE.filter((name) => !(middling.matches && ['group', 'usual'].includes(name)));
  return CHOOSABLE.filter((name) => chosen.split(' ').includes(name));
}

export function JobsPage({ route }) {
  const { model } = useSession();
  const { q: query = '', filter = 'all', group = '', sort = 'name', columns: asked } = route.query;
  const [selected, select] = useState(-1);
  const search = useRef(null);
  const columns = columnsOf(asked);
  const jobs = useMemo(() => find(model, { query, filter, group, sort }), [model.version, query, filter, group, sort]);
  const counts = useMemo(() => countAll(model, group), [model.version, group]);
  const groups = useMemo(() => groupsOf(model), [model.jobsVersion]);
  const change = (changes) => {
    adjust(address('jobs', [], asAddressed({ q: query, filter, group, sort, columns: asked, ...changes })));
    select(-1);
  };
  const choose = (names) => {
    prefer('columns', names.join(' ') || 'job');
    change({ columns: names.join(' ') || 'job' });
  };
  useListKeys({ jobs, selected, select, search, change });
  return html`<div class="page jobs">
    <h1 class="unseen">Jobs</h1>
    <div class="tools">
      <${SearchField} field=${search} label="Search jobs" hint="Search name, command, group, targets, tags" search=${(q) => change({ q })} />
      <div class="choices" role="group" aria-label="Show">
        ${FILTERS.map((each) => html`<button aria-pressed=${String(each === filter)} onClick=${() => change({ filter: each })}>
          ${each} <span class="count">${counts[each].toLocaleString('en')}</span>
        </button>`)}
      </div>
      ${groups.length > 1 && html`<select aria-label="Group" value=${group} onChange=${(event) => change({ group: event.target.value })}>
        <option value="">all groups</option>
        ${groups.map((each) => html`<option value=${each}>${each}</option>`)}
      </select>`}
      <${ColumnChoice} columns=${columns} choose=${choose} />
      <p class="muted" role="status">${jobs.length === model.jobs.size ? plural(jobs.length, 'job') : `${jobs.length.toLocaleString('en')} of ${plural(model.jobs.size, 'job')}`}</p>
    </div>
    <${Table} jobs=${jobs} model=${model} columns=${['job', ...columns]} selected=${selected} sort=${sort} change=${change} />
    ${jobs.length === 0 && html`<${Empty}>${model.jobs.size ? 'No job is like that.' : 'There are no jobs yet: conf.d holds none.'}<//>`}
  </div>`;
}

/** What the address needs to say: all but the defaults. */
const asAddressed = ({ filter, sort, ...rest }) => ({ ...rest, filter: filter === 'all' ? '' : filter, sort: sort === 'name' ? '' : sort });

function useListKeys({ jobs, selected, select, search, change }) {
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
}

function ColumnChoice({ columns, choose }) {
  const flip = (name) => choose(CHOOSABLE.filter((each) => columns.includes(each) !== (each === name)));
  return html`<details class="drop">
    <summary>Columns</summary>
    <fieldset><legend class="unseen">Columns to show</legend>
      ${CHOOSABLE.map((name) => html`<label><input type="checkbox" checked=${columns.includes(name)} onChange=${() => flip(name)} /> ${COLUMNS[name].title}</label>`)}
    </fieldset>
  </details>`;
}

function Table({ jobs, model, columns, selected, sort, change }) {
  const widths = columns.map((name) => COLUMNS[name]).map(({ least, share }) => (share ? `minmax(${least}px, ${share}fr)` : `${least}px`));
  const least = columns.reduce((sum, name) => sum + COLUMNS[name].least + GAP, GAP);
  return html`<${Windowed} class="table" role="grid" aria-label="Jobs" aria-rowcount=${jobs.length + 1} tabindex="0"
    aria-activedescendant=${selected < 0 ? null : `row-${selected}`} style=${{ '--columns': widths.join(' '), '--least': `${least}px` }}
    count=${jobs.length} rowHeight=${rowHeight()} selected=${selected} headHeight=${HEAD}
    head=${html`<${Head} columns=${columns} sort=${sort} change=${change} />`}
    row=${(index) => html`<${Row} key=${jobs[index].name} index=${index} job=${jobs[index]} model=${model} columns=${columns}
      selected=${index === selected} />`} />`;
}

function Head({ columns, sort, change }) {
  const by = sort.replace('-', '');
  const down = sort.startsWith('-');
  return html`<div class="row head" role="row" aria-rowindex="1">
    ${columns.map((name) => {
      const { title, sort: key } = COLUMNS[name];
      const isBy = key !== undefined && key === by;
      return html`<span role="columnheader" aria-sort=${isBy ? (down ? 'descending' : 'ascending') : null} class=${`cell-${name}`}>
        ${key ? html`<button class="quiet" onClick=${() => change({ sort: isBy && !down ? `-${key}` : key })}>
          ${title}${isBy && html`<span aria-hidden="true">${down ? ' ↑' : ' ↓'}</span>`}
        </button>` : title}
      </span>`;
    })}
  </div>`;
}

function Row({ index, job, model, columns, selected }) {
  const last = model.last.get(job.name);
  const living = model.runningByJob.get(job.name) ?? [];
  const glance = columns.some((name) => ['results', 'usual', 'running'].includes(name)) ? glanceAt(model, job.name) : undefined;
  const classes = ['row', selected && 'selected', !job.enabled && 'disabled', isFailing(model, job) && 'failing'];
  return html`<div id=${`row-${index}`} role="row" aria-rowindex=${index + 2} aria-selected=${String(selected)}
    class=${classes.filter(Boolean).join(' ')}>
    ${columns.map((name) => html`<span key=${name} role="gridcell" class=${`cell-${name}`}>
      <${COLUMNS[name].cell} job=${job} last=${last} living=${living} glance=${glance} />
    </span>`)}
  </div>`;
}

function Name({ job }) {
  return html`<a href=${jobAddress(job.name)} tabindex="-1">${job.name}</a>${job.tags.map((tag) => html` <span class="tag">${tag}</span>`)}
    <span class="muted description">${job.written.description ?? ''}</span>`;
}

function Schedule({ job }) {
  const words = useMemo(() => inWords(job.schedule), [job.schedule]);
  return words ? html`<span title=${job.schedule}>${words}</span>` : html`<span class="written">${job.schedule}</span>`;
}

function Next({ job, last }) {
  return job.enabled ? html`<${Countdown} at=${last?.nextAt} />` : html`<span class="muted">disabled</span>`;
}

function LastRun({ last, living }) {
  if (!last?.startedAt) return null;
  const state = living.length > 0 && !last.verdict ? 'running' : last.ok ? 'ok' : stateOfVerdict(last.verdict || 'failed');
  const shown = html`<${Mark} state=${state} /> <${Ago} at=${last.startedAt} />`;
  return last.run ? html`<a class="plain" tabindex="-1" href=${runAddress(last.run)}>${shown}</a>` : shown;
}

function Living({ living, glance }) {
  return living.length > 0 && html`<${Alive} living=${living} glance=${glance} />`;
}

function Alive({ living, glance }) {
  const now = useNow();
  const [{ run, open, targets, startedAt }] = living;
  return html`<a class="plain" tabindex="-1" href=${runAddress(run)}>
    <${Mark} state="running" /> ${open} of ${targets}${living.length > 1 ? ` (${living.length} runs)` : ''}
    <${Progress} startedAt=${startedAt} usual=${glance?.usual} now=${now} />
  </a>`;
}
