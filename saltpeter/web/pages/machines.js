// The machines: what runs where, which fail, which do not answer, which are left out; and one of them.

import { asPart, find, FILTERS, heldBy, runningOn, useRoster } from '../roster.js';
import { useKeys } from '../keys.js';
import { endMaintenance, maintain } from '../operations.js';
import { Ago, At, Empty, Failure, Lasting, Mark, plural, SearchField, State } from '../parts.js';
import { address, jobAddress, runAddress } from '../route.js';
import { adjust, mayHold, useAnswer, useSession } from '../session.js';
import { html, useMemo, useRef, useState } from '../ui.js';
import { Windowed } from '../windowed.js';

const COLUMNS = [
  ['name', 'Machine'],
  ['running', 'Runs'],
  ['last', 'Last'],
  ['failures', 'Failing'],
  ['failed', 'Last failure'],
  [null, 'About it'],
];
const HEAD = 32;
const narrow = matchMedia('(max-width: 720px)');
const rowHeight = () => (narrow.matches ? 56 : 34);
const machineAddress = (name) => address('machine', [name]);

export function MachinesPage({ route }) {
  const { model } = useSession();
  const { q: query = '', filter = 'all', sort = 'name' } = route.query;
  const roster = useRoster();
  const [selected, select] = useState(-1);
  const [chosen, choose] = useState(new Set());
  const search = useRef(null);
  const machines = useMemo(() => find(roster.machines, { query, filter, sort }), [roster.machines, query, filter, sort]);
  const change = (changes) => {
    const { q, filter: only, sort: by } = { q: query, filter, sort, ...changes };
    adjust(address('machines', [], { q, filter: only === 'all' ? '' : only, sort: by === 'name' ? '' : by }));
    select(-1);
  };
  const flip = (name) => choose((old) => new Set(old.has(name) ? [...old].filter((each) => each !== name) : [...old, name]));
  const move = (by) => () => select(Math.max(0, Math.min(machines.length - 1, selected + by)));
  const hold = () => mayHold() && chosen.size && maintain([...chosen], () => choose(new Set()));
  useKeys({
    '/': () => search.current.focus(),
    j: move(1), k: move(-1), ArrowDown: move(1), ArrowUp: move(-1),
    Enter: () => machines.length && (location.hash = machineAddress(machines[Math.max(0, selected)].name)),
    x: () => mayHold() && selected >= 0 && flip(machines[selected].name),
    m: hold,
    Escape: () => (document.activeElement === search.current ? search.current.blur() : chosen.size ? choose(new Set()) : change({ q: '' })),
  });
  return html`<div class="page fleet-page">
    <h1 class="unseen">Machines</h1>
    <div class="tools">
      <${SearchField} field=${search} label="Search machines" hint="Search machines and what runs there" search=${(q) => change({ q })} />
      <div class="choices" role="group" aria-label="Show">
        ${Object.entries(FILTERS).map(([each, passes]) => html`<button aria-pressed=${String(each === filter)} onClick=${() => change({ filter: each })}>
          ${each} <span class="count">${roster.machines.filter(passes).length.toLocaleString('en')}</span></button>`)}
      </div>
      ${mayHold() && html`<button disabled=${chosen.size === 0} title="Leave the chosen machines out of runs (m)" onClick=${hold}>Maintenance${chosen.size ? ` for ${chosen.size}` : ''}…</button>`}
      ${mayHold() && html`<${Everything} maintenance=${model.maintenance} />`}
      <p class="muted" role="status">${machines.length === roster.machines.length ? plural(machines.length, 'machine') : `${machines.length.toLocaleString('en')} of ${plural(roster.machines.length, 'machine')}`}</p>
    </div>
    ${model.maintenance.global && html`<p class="notice"><${Mark} state="paused" word="maintenance" />Maintenance of everything: no new runs start.</p>`}
    ${roster.error && html`<${Failure} error=${roster.error} />`}
    <${Windowed} class="table" role="grid" aria-label="Machines" aria-rowcount=${machines.length + 1} tabindex="0" aria-multiselectable="true"
      aria-activedescendant=${selected < 0 ? null : `row-${selected}`} count=${machines.length} rowHeight=${rowHeight()} selected=${selected} headHeight=${HEAD}
      head=${html`<${Head} sort=${sort} change=${change} />`}
      row=${(index) => html`<${Row} key=${machines[index].name} index=${index} machine=${machines[index]} selected=${index === selected}
        chosen=${chosen.has(machines[index].name)} flip=${flip} />`} />
    ${roster.known && machines.length === 0 && html`<${Empty}>${roster.machines.length ? 'No machine is like that.' : 'Nothing has run on any machine yet.'}<//>`}
  </div>`;
}

/** Maintenance of every machine at once. */
function Everything({ maintenance }) {
  const byHand = (maintenance.holds ?? []).some(({ machine }) => machine === '');
  if (byHand) return html`<button onClick=${() => endMaintenance('')}>End maintenance of everything</button>`;
  return maintenance.global ? null : html`<button class="quiet" onClick=${() => maintain([''])}>Stop all new runs…</button>`;
}

function Head({ sort, change }) {
  const by = sort.replace('-', '');
  const down = sort.startsWith('-');
  return html`<div class="row head" role="row" aria-rowindex="1"><span role="columnheader"><span class="unseen">Chosen</span></span><span role="columnheader"><span class="unseen">State</span></span>
    ${COLUMNS.map(([column, title]) => html`<span role="columnheader" aria-sort=${column === by ? (down ? 'descending' : 'ascending') : null}>
      ${column ? html`<button class="quiet" onClick=${() => change({ sort: column === by && !down ? `-${column}` : column })}>
        ${title}${column === by && html`<span aria-hidden="true">${down ? ' ↑' : ' ↓'}</span>`}</button>` : title}
    </span>`)}
  </div>`;
}

const MARKED = { paused: 'under maintenance', lost: 'does not answer', failed: 'failing', waiting: 'not known' };

function Row({ index, machine, selected, chosen, flip }) {
  const { name, state, parts, last, failures, failed } = machine;
  return html`<div id=${`row-${index}`} role="row" aria-rowindex=${index + 2} aria-selected=${String(selected || chosen)} class=${selected ? 'row selected' : 'row'}>
    <span role="gridcell">${mayHold() && html`<input type="checkbox" tabindex="-1" aria-label=${`Choose ${name}`} checked=${chosen} onChange=${() => flip(name)} />`}</span>
    <span role="gridcell"><${Mark} state=${state} word=${MARKED[state]} /></span>
    <span role="gridcell" class="cell-machine"><a href=${machineAddress(name)} tabindex="-1">${name}</a></span>
    <span role="gridcell" class="cell-runs">${parts.length > 0 && html`<a class="plain" tabindex="-1" href=${runAddress(parts[0].run, { m: name })}>${parts[0].job}</a>${parts.length > 1 ? html` <span class="muted">and ${parts.length - 1} more</span>` : ''}`}</span>
    <span role="gridcell" class="cell-last">${last && html`<${Part} part=${last} machine=${name} />`}</span>
    <span role="gridcell" class="cell-failures number">${failures > 0 && html`<b class="bad">${failures}×</b>`}</span>
    <span role="gridcell" class="cell-failed">${failed && html`<${Part} part=${failed} machine=${name} />`}</span>
    <span role="gridcell" class="cell-about muted"><${About} machine=${machine} /></span>
  </div>`;
}

function About({ machine: { silentSince, held } }) {
  return html`${silentSince && html`<span class="lost state">does not answer</span> for <${Lasting} from=${silentSince} /> `}
    ${held && html`maintenance${held.reason ? `: ${held.reason}` : ''}`}`;
}

function Part({ part, machine }) {
  return html`<a class="plain" tabindex="-1" href=${runAddress(part.run, { m: machine })}><${Mark} state=${part.state} /> ${part.job} <span class="muted"><${Ago} at=${part.endedAt} /></span></a>`;
}

// --- one machine ----------------------------------------------------------------------------------

export function MachinePage({ route }) {
  const { model } = useSession();
  const [name] = route.names;
  const parts = useMemo(() => runningOn(model).get(name) ?? [], [model.version, name]);
  const held = heldBy(model, name);
  const { result, error } = useAnswer('getMachine', { machine: name }, model.version, 3000);
  const ended = (result?.parts ?? []).map(asPart);
  const hold = () => mayHold() && !held && maintain([name]);
  useKeys({ m: hold });
  return html`<div class="page machine-page">
    <header class="title">
      <h1>${name}</h1>
      ${held && html`<${State} state="paused" word="under maintenance" />`}
      <span class="fill"></span>
      ${mayHold() && !held && html`<button onClick=${hold}>Maintenance…</button>`}
      ${mayHold() && held && !held.written && html`<button onClick=${() => endMaintenance(name)}>End maintenance</button>`}
    </header>
    ${held && html`<p class="notice"><${Mark} state="paused" word="maintenance" /><span>New runs leave it out${held.reason ? `: ${held.reason}` : ''}.
      ${held.by && ` Set by ${held.by}`}${held.until ? html`, until <${At} at=${Date.parse(held.until)} />` : held.written ? '' : ', until somebody ends it'}</span></p>`}
    ${error && html`<${Failure} error=${error} />`}
    <section><h2>Running <span class="count">${parts.length || ''}</span></h2>
      ${parts.length === 0 && html`<${Empty}>Nothing runs here.<//>`}
      <ul class="list">${parts.map(({ run, job, startedAt, state }) => html`<li key=${run}>
        <${Mark} state=${state === 'paused' ? 'paused' : state === 'running' ? 'running' : 'waiting'} /><a href=${runAddress(run, { m: name })}>${job}</a>
        <span class="fill muted">${run}</span><span class="number"><${Lasting} from=${startedAt} /></span></li>`)}</ul>
    </section>
    <section><h2>Ended here lately</h2>
      ${result && ended.length === 0 && html`<${Empty}>Nothing has ended here yet.<//>`}
      ${ended.length > 0 && html`<div class="scroll-x boxed"><table aria-label="Ended here lately">
        <thead><tr><th>Ended</th><th>Job</th><th>Result</th><th class="number">Code</th><th class="number">Took</th></tr></thead>
        <tbody>${ended.map((part) => html`<tr key=${part.run}>
          <td><a href=${runAddress(part.run, { m: name })}><${At} at=${part.endedAt} /></a></td>
          <td><a href=${jobAddress(part.job)}>${part.job}</a></td>
          <td><${State} state=${part.state} word=${part.outcome === 'no_response' ? 'did not answer' : undefined} /></td>
          <td class="number code">${part.retcode}</td>
          <td class="number"><${Lasting} from=${part.startedAt} to=${part.endedAt} /></td>
        </tr>`)}</tbody>
      </table></div>`}
    </section>
  </div>`;
}
