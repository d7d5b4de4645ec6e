// The machines of a run: how many are in which state, and a list that stays readable when they are thousands.

import { counted, LIVING } from './machines.js';
import { Ago, Lasting, Mark, WORDS } from './parts.js';
import { bytes, span } from './times.js';
import { html } from './ui.js';
import { Windowed } from './windowed.js';

const ROW = 30;

/** How the machines are, as a bar and as buttons that leave only one state in the list. */
export function States({ machines, only, choose }) {
  const counts = counted(machines);
  return html`<div class="states">
    <div class="shares" aria-hidden="true">${counts.map(([state, count]) => html`<i class=${state} style=${{ flexGrow: count }}></i>`)}</div>
    <div class="buttons" role="group" aria-label="Machines by state">
      ${counts.map(([state, count]) => html`<button aria-pressed=${String(state === only)} onClick=${() => choose(state === only ? '' : state)}>
        <${Mark} state=${state} word="" /> ${WORDS[state]} <span class="count">${count.toLocaleString('en')}</span>
      </button>`)}
    </div>
  </div>`;
}

/** `picked` are names; `pick(names, isPicked)` changes them. */
export function Fleet({ rows, open, show, picked, pick }) {
  const at = rows.findIndex((row) => row.machine === open);
  const draw = (index) => {
    const row = rows[index];
    if (row.heading) return html`<${Heading} key=${`: ${row.state}`} row=${row} rows=${rows} picked=${picked} pick=${pick} />`;
    return html`<${MachineRow} key=${row.machine} row=${row} selected=${row.machine === open} show=${show} isPicked=${picked.has(row.machine)} pick=${pick} />`;
  };
  return html`<${Windowed} class="table machines" role="grid" aria-label="Machines" aria-rowcount=${rows.length} tabindex="0"
    count=${rows.length} rowHeight=${ROW} row=${draw} selected=${at} headHeight=${ROW} head=${html`<${Head} />`} />`;
}

function Head() {
  return html`<div class="row head" role="row">
    <span role="columnheader"><span class="unseen">Chosen</span></span><span role="columnheader"><span class="unseen">State</span></span>
    <span role="columnheader">Machine</span><span role="columnheader" class="number">Code</span>
    <span role="columnheader" class="number">Time</span><span role="columnheader" class="number">Heard</span>
    <span role="columnheader" class="number more">CPU</span><span role="columnheader" class="number more">Memory</span>
    <span role="columnheader" class="number most">PID</span><span role="columnheader" class="number most">Version</span>
  </div>`;
}

function Heading({ row, rows, picked, pick }) {
  const names = () => rows.filter((each) => !each.heading && each.state === row.state).map(({ machine }) => machine);
  const all = row.count <= picked.size && names().every((name) => picked.has(name));
  return html`<div class="row heading" role="row">
    <span role="gridcell"><input type="checkbox" checked=${all} aria-label=${`Choose all ${WORDS[row.state]}`} onChange=${() => pick(names(), !all)} /></span>
    <span role="gridcell" class="title">${capital(WORDS[row.state])} <span class="count">${row.count.toLocaleString('en')}</span></span>
  </div>`;
}

function MachineRow({ row, selected, show, isPicked, pick }) {
  const { machine, state, code, startedAt, endedAt, heartbeatAt, pid, version, late, cpu, memory } = row;
  return html`<div class=${`row ${selected ? 'selected' : ''}`} role="row" aria-selected=${String(selected)} onClick=${() => show(machine)}>
    <span role="gridcell"><input type="checkbox" checked=${isPicked} aria-label=${`Choose ${machine}`}
      onClick=${(event) => event.stopPropagation()} onChange=${() => pick([machine], !isPicked)} /></span>
    <span role="gridcell"><${Mark} state=${state} /></span>
    <span role="gridcell" class="machine"><button class="plain" tabindex="-1">${machine}</button></span>
    <span role="gridcell" class="number code">${code}${late ? html`<span title="what it reported after it had been given up">→${late.retcode}</span>` : ''}</span>
    <span role="gridcell" class="number">${startedAt && html`<${Lasting} from=${startedAt} to=${endedAt} />`}</span>
    <span role="gridcell" class="number muted">${LIVING.has(state) ? heartbeatAt && html`<${Ago} at=${heartbeatAt} />` : endedAt && html`<${Ago} at=${endedAt} />`}</span>
    <span role="gridcell" class="number muted more">${cpu === null ? '' : span(cpu * 1000)}</span>
    <span role="gridcell" class="number muted more">${memory > 0 ? bytes(memory) : ''}</span>
    <span role="gridcell" class="number muted most">${pid}</span>
    <span role="gridcell" class="number muted most">${version}</span>
  </div>`;
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);
