// How jobs have been doing: the last results and the usual duration, asked for when a row shows them and kept.

import { plural, stateOfVerdict, WORDS } from './parts.js';
import { ask, redraw } from './session.js';
import { span } from './times.js';
import { html } from './ui.js';

const RESULTS = 20;
const TOGETHER_MS = 60; // rows that come into sight within this time are asked for at once
const AT_ONCE = 200; // jobs in one request
const NEVER = Object.freeze({ usual: null, runs: [] });

const known = new Map(); // job -> {key, usual, runs}
const wanted = new Map(); // job -> key
let timer = 0;

/** What is known of the job: {usual, runs}; usual in ms or null, runs newest first. Asks again when its last run is another
    one or has ended; until the answer has come, what was known before, or undefined. */
export function glanceAt(model, job) {
  const last = model.last.get(job);
  if (!last?.run) return NEVER;
  const key = `${last.run} ${last.verdict}`;
  const found = known.get(job);
  if (found?.key !== key) want(job, key);
  return found;
}

function want(job, key) {
  wanted.set(job, key);
  timer ||= setTimeout(inquire, TOGETHER_MS);
}

async function inquire() {
  const asked = [...wanted].slice(0, AT_ONCE);
  for (const [job] of asked) wanted.delete(job);
  try {
    const { crons } = await ask('getLatest', { crons: asked.map(([job]) => job), count: RESULTS });
    for (const [job, key] of asked) known.set(job, { key, ...inMs(crons[job]) });
  } catch {
    // whoever still shows it asks again when the page is live again
  }
  timer = wanted.size ? setTimeout(inquire) : 0;
  redraw();
}

const inMs = (told = NEVER) => ({ usual: told.usual === null ? null : told.usual * 1000, runs: told.runs });

const HEIGHTS = { ok: 6, skipped: 2, running: 14 }; // what went wrong is as high as it gets: its colour alone must not tell
const STEP = 6;

/** The last results, the newest at the right. */
export function Results({ runs }) {
  const states = runs.map(({ verdict }) => stateOfVerdict(verdict));
  const paths = {};
  states.forEach((state, place) => {
    const height = HEIGHTS[state] ?? 14;
    paths[state] = `${paths[state] ?? ''}M${(RESULTS - 1 - place) * STEP} ${14 - height}h4v${height}h-4z`;
  });
  return html`<svg class="results" viewBox=${`0 0 ${RESULTS * STEP} 14`} role="img" aria-label=${inWords(states)}>
    <title>${inWords(states)}</title>
    ${Object.entries(paths).map(([state, path]) => html`<path class=${state} d=${path} />`)}
  </svg>`;
}

function inWords(states) {
  const counts = new Map();
  for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1);
  const parts = [...counts].map(([state, count]) => `${count} ${WORDS[state]}`);
  return `last ${plural(states.length, 'run')}: ${parts.join(', ')}`;
}

/** How far a run is, by the time that it usually takes; beyond that it says by how much. */
export function Progress({ startedAt, usual, now }) {
  if (!usual || !startedAt) return null;
  const took = Math.max(0, now - startedAt);
  const over = took > usual;
  const said = over ? `${span(took - usual)} longer than usual (${span(usual)})` : `${Math.round((100 * took) / usual)} % of the usual ${span(usual)}`;
  return html`<progress class=${over ? 'over' : ''} max=${usual} value=${Math.min(took, usual)} aria-label=${said} title=${said}></progress>`;
}
