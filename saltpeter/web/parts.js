// Small things that every page is made of.

import { shownZone, useNow, useSession } from './session.js';
import { WORDS } from './states.js';
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

/** A state's sign. With a `word` of '' it only adorns: what it says stands beside it. */
export function Mark({ state, word = WORDS[state] }) {
  const said = word ? { role: 'img', 'aria-label': word } : { 'aria-hidden': 'true' };
  return html`<svg class="mark ${state}" viewBox="0 0 16 16" ...${said}>
    ${word && html`<title>${word}</title>`}
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
  return html`<time datetime=${new Date(at).toISOString()} title=${inFull(at, shownZone())}>${clock(at, { zone: shownZone(), now })}</time>`;
}

export function Ago({ at }) {
  const now = useNow();
  if (!at) return html`<span class="muted">never</span>`;
  return html`<time datetime=${new Date(at).toISOString()} title=${inFull(at, shownZone())}>${ago(now - at)}</time>`;
}

export function Countdown({ at }) {
  const now = useNow();
  if (!at) return html`<span class="muted">–</span>`;
  return html`<time datetime=${new Date(at).toISOString()} title=${inFull(at, shownZone())}>${countdown(at - now)}</time>`;
}

/** The field that searches what a page lists. It shows what the address says now, and not what it said when the page was
    drawn last: what was typed since then would be gone. */
export function SearchField({ field, label, hint, search }) {
  const { route } = useSession();
  return html`<input ref=${field} type="search" value=${route.query.q ?? ''} placeholder=${`${hint}  ( / )`} aria-label=${label}
    maxlength="200" spellcheck="false" onInput=${(event) => search(event.target.value)} />`;
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

export { stateOfOutcome, stateOfVerdict, WORDS } from './states.js';
export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString('en')} ${count === 1 ? one : many}`;
