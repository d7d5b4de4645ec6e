// The dialogs: a question before something is done to machines, and the list of keys. One at a time.

import { logOut, redraw, session, switchTheme, switchZone, themeName, useSession, zoneName } from './session.js';
import { html, useLayoutEffect, useRef } from './ui.js';

let open = null; // a function that draws the content

export function closeDialog() {
  if (open === null) return;
  open = null;
  redraw();
}

function show(content) {
  open = content;
  redraw();
}

/** Ask before `act` is done; it gets the form's data. `details` are lines that say what will be hit. */
export function confirm({ title, details, label, danger = false, act }) {
  show(() => html`<form method="dialog" onSubmit=${(event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    closeDialog();
    act(form);
  }}>
    <h2>${title}</h2>
    ${details}
    <div class="buttons">
      <button type="button" onClick=${closeDialog}>Cancel</button>
      <button class=${danger ? 'danger' : 'primary'} autofocus>${label}</button>
    </div>
  </form>`);
}

/** Names for a question: all of few, the first of many. */
export function Names({ names, most = 12 }) {
  const more = names.length - most;
  return html`<ul class="names">
    ${names.slice(0, most).map((name) => html`<li>${name}</li>`)}
    ${more > 0 && html`<li class="muted">and ${more.toLocaleString('en')} more</li>`}
  </ul>`;
}

const HELP = [
  ['Everywhere', [['g n', 'Now'], ['g j', 'Jobs'], ['g t', 'Timeline'], ['g m', 'Machines'], ['/', 'search'], ['u', "local time, UTC or the job's"], ['t', 'light or dark'], ['?', 'this list']]],
  ['In a list', [['j k ↓ ↑', 'move'], ['Enter', 'open'], ['Esc', 'leave the search, undo the choice']]],
  ['Timeline', [['← →', 'move in time'], ['+ -', 'show less or more time'], ['n', 'follow the present'], ['[ ]', 'what the job did'], ['l', 'chart or list']]],
  ['Machines', [['x', 'choose a machine'], ['m', 'maintenance of the chosen']]],
  ['Job', [['r', 'run now']]],
  ['Run', [['x', 'choose a machine'], ['K', 'kill'], ['p', 'pause'], ['c', 'resume'], ['S', 'signal'], ['o', 'one output'], ['a', 'machines with the same output'], ['b', 'outputs side by side']]],
  ['Output', [['s', 'find'], ['n N', 'next and previous hit'], ['f', 'follow'], ['w', 'wrap lines'], ['d', 'download the output']]],
];

export function openHelp() {
  show(() => html`<div>
    <h2>Keys</h2>
    <div class="help">
      ${HELP.map(([where, keys]) => html`<section>
        <h3>${where}</h3>
        <dl>${keys.map(([key, does]) => html`<dt>${key.split(' ').map((each) => html`<kbd>${each}</kbd> `)}</dt><dd>${does}</dd>`)}</dl>
      </section>`)}
    </div>
    <div class="buttons">
      ${session.me.by_token && html`<button onClick=${logOut}>Log out</button>`}
      <button onClick=${switchZone}>Times: ${zoneName()}</button>
      <button onClick=${switchTheme}>Theme: ${themeName()}</button>
      <button autofocus onClick=${closeDialog}>Close</button>
    </div>
  </div>`);
}

export function Dialogs() {
  useSession();
  const element = useRef(null);
  useLayoutEffect(() => {
    if (open !== null && !element.current.open) element.current.showModal();
    if (open === null) element.current.close();
  });
  return html`<dialog ref=${element} aria-modal="true" onClose=${closeDialog}>${open?.()}</dialog>`;
}
