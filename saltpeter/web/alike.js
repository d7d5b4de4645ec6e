// The machines of a run by what they wrote, so that the odd one out is seen at once.

import { Empty, Failure, plural } from './parts.js';
import { useAnswer } from './session.js';
import { bytes } from './times.js';
import { Screen, textOf } from './terminal.js';
import { html } from './ui.js';

const APART_MS = 5000; // the daemon reads all that was written
const NAMED = 8; // machines of a group

/** `again` changes when machines have ended; `show(machine)` and `compare(machines)` go to outputs. */
export function Alike({ run, again, show, compare }) {
  const { result, error } = useAnswer('getAlike', { job_instance: run }, again, APART_MS);
  const groups = result?.groups ?? [];
  const usual = groups[0]?.machines[0];
  return html`<div class="alike">
    ${error && html`<${Failure} error=${error} />`}
    ${!result && !error && html`<${Empty}>Comparing what they wrote…<//>`}
    ${result && html`<p class="lead" role="status">${inWords(groups)}</p>`}
    <ol class="list">
      ${groups.map((group) => html`<${Group} key=${group.machines[0]} group=${group} usual=${usual} show=${show} compare=${compare} />`)}
    </ol>
  </div>`;
}

function inWords(groups) {
  if (groups.length === 0) return 'No machine took part.';
  const count = groups.reduce((sum, { machines }) => sum + machines.length, 0);
  if (groups.length === 1) return groups[0].length ? `All ${plural(count, 'machine')} wrote the same.` : 'No machine wrote anything.';
  return `${plural(groups.length, 'kind')} of output on ${plural(count, 'machine')}`;
}

function Group({ group: { machines, length, line, text }, usual, show, compare }) {
  const [first] = machines;
  const isUsual = first === usual;
  return html`<li>
    <b class="number size">${machines.length.toLocaleString('en')}</b>
    <div class="fill names">
      <p>${machines.slice(0, NAMED).map((machine) => html`<button class="link" onClick=${() => show(machine)}>${machine}</button> `)}
        ${machines.length > NAMED && html`<span class="muted">and ${(machines.length - NAMED).toLocaleString('en')} more</span>`}</p>
      <p class="muted">${length ? bytes(length) : 'nothing'}${line > 0 && html`; line ${line} is <code class="other">${asShown(text) || '(not there)'}</code>`}</p>
    </div>
    ${!isUsual && length > 0 && html`<button onClick=${() => compare([usual, first])}>Compare</button>`}
  </li>`;
}

/** A line as a terminal would show it, without its colours. */
function asShown(text) {
  const screen = new Screen();
  screen.write(text);
  return textOf(screen.lines.at(-1));
}
