// Small things that every page is made of.

import { inUtc, useNow } from './session.js';
import { ago, clock, countdown, inFull, span } from './times.js';
import { html } from './ui.js';

// Each state has a colour, a shape and a word: none of them alone has to tell.
const SHAPES = {
  ok: 'M3.5 8.5l3 3 6-7',
  failed: 'M4 4l8 8M12 4l-8 8',
  running: 'M5.5 3.5l7 4.5-7 4.5z',
  paused: 'M5.5 4v8M10.5 4v8',
  waiting: 'M8 4.5v3.5l2.5 1.5',
  killed: 'M5 5h6v6h-6z',
  timeout: 'M5 3h6l-6 10h6zM5 3l6 10',
  lost: 'M6 6.2a2 2 0 1 1 2.9 1.8c-.7.4-.9.8-.9 1.5M8 12.2v.1',
  skipped: 'M4 8h8',
};

export const WORDS = {
  ok: 'succeeded',
  failed: 'failed',
  running: 'running',
  paused: 'paused',
  waiting: 'waiting',
  killed: 'killed',
  timeout: 'timed out',
  lost: 'lost',
  skipped: 'left out',
};

const OF_OUTCOME = {
  timeout: 'timeout',
  killed: 'killed',
  refused: 'skipped',
  lost: 'lost',
  no_response: 'lost',
  error: 'failed',
  maintenance: 'skipped',
};
const OF_VERDICT = { success: 'ok', failed: 'failed', killed: 'killed', no_targets: 'skipped' };

/** The state of a machine's part, from its outcome and code. */
export function stateOfOutcome(outcome, retcode) {
  if (outcome === 'exited') return Number(retcode) === 0 ? 'ok' : 'failed';
  return OF_OUTCOME[outcome] ?? 'failed';
}

/** The state of a run from its verdict; a run without one is running. */
export const stateOfVerdict = (verdict) => (verdict ? (OF_VERDICT[verdict] ?? 'failed') : 'running');

export function Mark({ state, word = WORDS[state] }) {
  return html`<svg class="mark ${state}" viewBox="0 0 16 16" role="img" aria-label=${word}>
    <title>${word}</title>
    <circle cx="8" cy="8" r="8" class="ground" />
    <path d=${SHAPES[state]} />
  </svg>`;
}

/** A mark with its word. */
export function State({ state, word = WORDS[state] }) {
  return html`<span class="state ${state}"><${Mark} state=${state} word="" />${word}</span>`;
}

/** A point in time; its title says it in full. */
export function At({ at }) {
  const now = useNow();
  if (at === null || at === undefined) return html`<span class="muted">–</span>`;
  return html`<time datetime=${new Date(at).toISOString()} title=${inFull(at, inUtc())}>${clock(at, { utc: inUtc(), now })}</time>`;
}

export function Ago({ at }) {
  const now = useNow();
  if (!at) return html`<span class="muted">never</span>`;
  return html`<time datetime=${new Date(at).toISOString()} title=${inFull(at, inUtc())}>${ago(now - at)}</time>`;
}

export function Countdown({ at }) {
  const now = useNow();
  if (!at) return html`<span class="muted">–</span>`;
  return html`<time datetime=${new Date(at).toISOString()} title=${inFull(at, inUtc())}>${countdown(at - now)}</time>`;
}

/** How long it has lasted, or has been lasting. */
export function Lasting({ from, to }) {
  const now = useNow();
  return from ? span((to ?? now) - from) : '';
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

export function Failure({ error }) {
  return html`<p class="failure" role="alert">${error.message}</p>`;
}

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString('en')} ${count === 1 ? one : many}`;
