// What was asked of machines from this page, from the click to the receipt.

import { confirm, Names } from './dialogs.js';
import { Mark, plural, stateOfOutcome } from './parts.js';
import { runAddress } from './route.js';
import { ask, listen, mayAct, redraw, useSession } from './session.js';
import { html } from './ui.js';

const KEPT = 4;
const AT_ONCE = 1000; // machines that one request may name
const SEEN_MS = 6000; // how long it is said that a pause has been handed over
let operations = []; // newest first

function begin(title) {
  const operation = { title, stage: 'asked', text: 'asked…', receipts: new Map(), awaits: new Set(), owed: null, come: 0 };
  operations = [operation, ...operations].slice(0, KEPT);
  redraw();
  return operation;
}

function advance(operation, change) {
  Object.assign(operation, change);
  if (operation.stage === 'done' && operation.receipts.size === 0) setTimeout(() => dismiss(operation), SEEN_MS);
  redraw();
}

function dismiss(operation) {
  operations = operations.filter((each) => each !== operation);
  redraw();
}

async function carryOut(operation, steps) {
  try {
    await steps();
  } catch (error) {
    advance(operation, { stage: 'failed', text: error.message });
  }
}

/** Start `job`, after asking; then go to its run. */
export function runNow(job) {
  if (!mayAct()) return;
  const act = (form) => {
    const operation = begin(`Run ${job.name}`);
    const machines = form.get('machines').split(/[\s,]+/).filter(Boolean);
    carryOut(operation, async () => {
      const { job_instance: run } = await ask('run', machines.length ? { cron: job.name, machines } : job.name);
      dismiss(operation); // its page says more
      location.hash = runAddress(run);
    });
  };
  const details = html`<p>Starts <b>${job.name}</b> now on everything that matches</p>
    <p class="written">${job.targets || '*'}</p>
    <pre class="written">${job.written.command}</pre>
    <p class="fields"><label>Only on <input name="machines" type="text" spellcheck="false" placeholder="names of machines; all, if empty" /></label></p>`;
  confirm({ title: `Run ${job.name}?`, details, label: 'Run now', act });
}

/** Kill a run (`machines` null) or its part on some machines, after asking. `hit` names what will be hit. */
export function kill({ job, run, machines, hit }) {
  if (!mayAct()) return;
  const title = machines === null ? `Kill ${run}` : `Kill ${run} on ${plural(machines.length, 'machine')}`;
  const act = () => {
    const operation = begin(title);
    carryOut(operation, () => askToEnd(operation, { cron: job, job_instance: run }, machines));
  };
  const details = html`<p>Ends the command and all its processes on ${plural(hit.length, 'machine')}:</p><${Names} names=${hit} />`;
  confirm({ title: `${title}?`, details, label: `Kill on ${plural(hit.length, 'machine')}`, danger: true, act });
}

async function askToEnd(operation, value, machines) {
  const runs = [];
  for (const part of parts(machines)) {
    const keep = (id) => operation.awaits.add(id);
    runs.push(...(await ask('killCron', { ...value, ...part }, keep).then((result) => result.runs, unlessEnded)));
  }
  operation.owed = runs.length; // a receipt for each
  advance(operation, { stage: 'handed over', text: `handed over to ${plural(toldIn(runs), 'machine')}; waiting for the receipt` });
  finish(operation); // the receipts may have been quicker
}

/** What each request says of `machines`, where it cannot name them all; null is every machine. */
function parts(machines) {
  if (machines === null) return [{}];
  const starts = Array.from({ length: Math.ceil(machines.length / AT_ONCE) }, (_, number) => number * AT_ONCE);
  return starts.map((start) => ({ machines: machines.slice(start, start + AT_ONCE) }));
}

function unlessEnded(error) {
  if (error.code !== 'not_running') throw error;
  return [];
}

const toldIn = (runs) => runs.reduce((sum, each) => sum + each.told.length, 0);

/** Pause or resume (`verb`) a run, or its part on some machines, after asking. */
export function halt(verb, { job, run, machines, hit }) {
  if (!mayAct()) return;
  const word = verb === 'pause' ? 'Pause' : 'Resume';
  const does = verb === 'pause' ? 'Stops all processes of the command, without ending them,' : 'Lets the stopped processes go on';
  const title = `${word} ${run}`;
  const act = () => send(title, verb, { cron: job, job_instance: run }, machines);
  const details = html`<p>${does} on ${plural(hit.length, 'machine')}:</p><${Names} names=${hit} />`;
  confirm({ title: `${title}?`, details, label: `${word} on ${plural(hit.length, 'machine')}`, act });
}

const SIGNALS = ['HUP', 'INT', 'QUIT', 'TERM', 'USR1', 'USR2', 'WINCH', 'STOP', 'CONT', 'KILL'];

/** Send a signal to a run, or to its part on some machines, after asking which. */
export function sendSignal({ job, run, machines, hit }) {
  if (!mayAct()) return;
  const act = (form) => {
    const signal = form.get('signal');
    send(`${signal} to ${run}`, 'signal', { cron: job, job_instance: run, signal }, machines);
  };
  const details = html`<p><label>Signal <select name="signal" autofocus>${SIGNALS.map((name) => html`<option>${name}</option>`)}</select></label></p>
    <p>goes to the command and all its processes on ${plural(hit.length, 'machine')}:</p><${Names} names=${hit} />`;
  confirm({ title: `Signal ${run}`, details, label: `Send to ${plural(hit.length, 'machine')}`, act });
}

function send(title, verb, value, machines) {
  const operation = begin(title);
  carryOut(operation, async () => {
    const told = await handedOver(verb, value, machines);
    advance(operation, { stage: 'done', text: `handed over to ${plural(told, 'machine')}` });
  });
}

/** Ask for something on all machines (null) or on some; how many were told. */
async function handedOver(verb, value, machines) {
  let told = 0;
  for (const part of parts(machines)) told += toldIn((await ask(verb, { ...value, ...part })).runs);
  return told;
}

listen((message) => {
  if (message.type !== 'kill_receipt') return;
  const operation = operations.find((each) => each.awaits.has(message.id));
  if (operation === undefined) return;
  for (const [machine, receipt] of Object.entries(message.machines)) operation.receipts.set(machine, receipt);
  operation.come += 1;
  finish(operation);
});

/** Say so, if nothing more will come. */
function finish(operation) {
  const { owed, come, receipts } = operation;
  if (owed === null || come < owed) return redraw();
  advance(operation, { stage: 'done', text: owed ? summary(receipts) : 'it had ended already' });
}

function summary(receipts) {
  if (receipts.size === 0) return 'ended before it had begun on any machine';
  const survived = [...receipts.values()].reduce((sum, { receipt }) => sum + (receipt?.survived.length ?? 0), 0);
  const ended = [...receipts.values()].reduce((sum, { receipt }) => sum + (receipt?.ended.length ?? 0), 0);
  return survived ? `${plural(survived, 'process', 'processes')} survived` : `done: ${plural(ended, 'process', 'processes')} ended, none survived`;
}

export function Operations() {
  useSession();
  return html`<aside class="operations" aria-live="polite" aria-label="What you asked for">
    ${operations.map((each) => html`<${Operation} key=${each} operation=${each} />`)}
  </aside>`;
}

function Operation({ operation }) {
  const { title, stage, text, receipts } = operation;
  return html`<section class="operation ${stage.replace(' ', '-')}">
    <header><b>${title}</b><button class="quiet" onClick=${() => dismiss(operation)} aria-label="Dismiss">✕</button></header>
    <p>${text}</p>
    ${receipts.size > 0 && html`<ul class="receipts">${[...receipts].slice(0, 20).map(([machine, each]) => html`<${Receipt} machine=${machine} ...${each} />`)}</ul>`}
  </section>`;
}

function Receipt({ machine, retcode, outcome, receipt }) {
  return html`<li>
    <${Mark} state=${stateOfOutcome(outcome, retcode)} /> <b>${machine}</b> <span class="code">${retcode}</span>
    ${receipt && html` <span class="muted">${described(receipt)}</span>`}
  </li>`;
}

/** A receipt in words: what ended, and what did not. */
export function described({ ended, survived }) {
  const named = (processes) => processes.map(({ pid, name }) => `${name} ${pid}`).join(', ');
  const parts = [ended.length && `ended ${named(ended)}`, survived.length && `survived: ${named(survived)}`];
  return parts.filter(Boolean).join('; ') || 'nothing was left to end';
}

const ENDS = { 'now+1h': 'in an hour', 'now+4h': 'in four hours', 'now+1d': 'in a day', '': 'when somebody ends it' };

/** Leave machines out of runs, after asking for a reason and an end; `['']` is every machine. `done` once it is so. */
export function maintain(machines, done = () => {}) {
  const wanted = { reason: '', until: 'now+1h' };
  const every = machines[0] === '';
  const title = every ? 'Stop all new runs' : `Maintenance of ${machines.length === 1 ? machines[0] : plural(machines.length, 'machine')}`;
  const act = () => {
    const operation = begin(title);
    const value = { reason: wanted.reason, ...(wanted.until && { until: wanted.until }) };
    carryOut(operation, async () => {
      await Promise.all(machines.map((machine) => ask('maintenance', { set: { machine, ...value } })));
      done();
      advance(operation, { stage: 'done', text: wanted.until ? `ends ${ENDS[wanted.until]}` : 'until somebody ends it' });
    });
  };
  const details = html`<p>${every ? 'No job starts any more. What runs, runs on.' : 'New runs leave these out. What runs there, runs on.'}</p>
    ${!every && html`<${Names} names=${machines} />`}
    <div class="fields">
      <label>Reason <input type="text" maxlength="200" placeholder="new disk" onInput=${(event) => (wanted.reason = event.target.value)} /></label>
      <label>Ends <select onChange=${(event) => (wanted.until = event.target.value)}>
        ${Object.entries(ENDS).map(([until, words]) => html`<option value=${until}>${words}</option>`)}
      </select></label>
    </div>`;
  confirm({ title: `${title}?`, details, label: every ? 'Stop all new runs' : 'Begin maintenance', danger: every, act });
}

/** End maintenance that was set by hand; '' is that of every machine. */
export function endMaintenance(machine) {
  const operation = begin(`End maintenance of ${machine || 'everything'}`);
  carryOut(operation, async () => {
    await ask('maintenance', { end: { machine } });
    advance(operation, { stage: 'done', text: 'new runs include it again' });
  });
}
