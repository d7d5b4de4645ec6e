// What ran, what did not, and what is to come: a line of time for each job.

import { asRows, nearest } from '../bars.js';
import { useKeys } from '../keys.js';
import { Empty, Failure, plural, SearchField } from '../parts.js';
import { address, jobAddress, runAddress } from '../route.js';
import { groupsOf } from '../search.js';
import { adjust, shownZone, useAnswer, useKept, useNow, useSession } from '../session.js';
import { asWall, inFull, instantOf } from '../times.js';
import { moved, readSpan, windowOf, writeSpan, zoomed } from '../timescale.js';
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from '../ui.js';
import { Legend, Lines } from './lines.js';
import { TimeList } from './timelist.js';

const SPANS = ['1h', '6h', '1d', '7d'];
const USUAL_SPAN = '6h';
const SETTLED_MS = 180; // without a further movement: then it is asked for
const APART_MS = 2000; // between questions about the same
const ACTIVE_APART_MS = 10_000; // the daemon looks at every job for it
const ADDRESSED_MS = 300;
const KEPT = 1000; // jobs whose lines are remembered
const SHOWS = { active: 'active', failed: 'went wrong', passed: 'did not run', all: 'all' };
const SORTS = { name: 'by name', group: 'by group', start: 'by start' };

export function TimelinePage({ route }) {
  const { model } = useSession();
  const now = useNow();
  const { q: query = '', group = '', show = 'active', sort = 'name', view = '' } = route.query;
  const [place, setPlace] = usePlace(route);
  const window = windowOf(place, now);
  const search = useRef(null);
  const [chosen, choose] = useState(null); // {index, item}
  const change = (changes) => adjust(address('timeline', [], asAddressed({ ...route.query, ...changes })));
  const active = useActive(window, place, model);
  const names = useMemo(() => filtered(model, active.result, { query, group, show, sort }), [model.jobsVersion, active.result, query, group, show, sort]);
  const [sight, setSight] = useState([0, 40]);
  const bars = useBars(names.slice(...sight), window, place, model);
  const lines = useMemo(() => names.map((name) => ({ name, row: bars.rows.get(name) })), [names, bars.version]);
  const goTo = (next) => setPlace({ centre: (next.from + next.to) / 2, span: next.to - next.from });
  const zoom = (factor, at = place.centre ?? now) => (place.centre === null && at === now ? setPlace({ ...place, span: readSpan(writeSpan(place.span * factor), place.span) }) : goTo(zoomed(window, at, factor)));
  const pan = (share) => goTo(moved(window, share * place.span));
  const live = (span = place.span) => setPlace({ centre: null, span });
  useTimelineKeys({ lines, window, goTo, chosen, choose, zoom, pan, live, search, change, view, now });
  return html`<div class="page timeline">
    <h1 class="unseen">Timeline</h1>
    <div class="tools">
      <${SearchField} field=${search} label="Search jobs" hint="Search jobs" search=${(q) => change({ q })} />
      <div class="choices" role="group" aria-label="Show jobs">
        ${Object.entries(SHOWS).map(([each, title]) => html`<button aria-pressed=${String(each === show)} onClick=${() => change({ show: each })}>${title}</button>`)}
      </div>
      <${Select} label="Group" value=${group} options=${[['', 'all groups'], ...groupsOf(model).map((each) => [each, each])]} choose=${(value) => change({ group: value })} />
      <${Select} label="Order" value=${sort} options=${Object.entries(SORTS)} choose=${(value) => change({ sort: value })} />
      <div class="choices" role="group" aria-label="Show as">
        ${[['', 'Chart'], ['list', 'List']].map(([each, title]) => html`<button aria-pressed=${String(each === view)} onClick=${() => change({ view: each })}>${title}</button>`)}
      </div>
    </div>
    <div class="tools when">
      <${GoTo} place=${place} goTo=${(centre) => setPlace({ centre, span: Math.min(place.span, readSpan('1h')) })} />
      <div class="choices" role="group" aria-label="Span">
        ${SPANS.map((each) => html`<button aria-pressed=${String(readSpan(each) === place.span)} onClick=${() => setPlace({ ...place, span: readSpan(each) })}>${each}</button>`)}
      </div>
      <div class="choices" role="group" aria-label="Move">
        <button aria-label="Earlier" title="Earlier (←)" onClick=${() => pan(-0.5)}>◀</button>
        <button aria-label="Show more time" title="Show more time (−)" onClick=${() => zoom(2)}>−</button>
        <button aria-label="Show less time" title="Show less time (+)" onClick=${() => zoom(0.5)}>+</button>
        <button aria-label="Later" title="Later (→)" onClick=${() => pan(0.5)}>▶</button>
      </div>
      <button class=${place.centre === null ? 'primary' : ''} aria-pressed=${String(place.centre === null)} title="Follow the present (n)" onClick=${() => live()}>Now</button>
      <p class="muted" role="status">${said(names.length, window)}</p>
    </div>
    ${(active.error ?? bars.error) && html`<${Failure} error=${active.error ?? bars.error} />`}
    ${view === 'list'
      ? html`<${TimeList} names=${names} window=${window} />`
      : html`<${Lines} lines=${lines} window=${window} now=${now} chosen=${chosen} choose=${choose} setSight=${setSight} goTo=${goTo} open=${(item) => open(item, goTo)} />
        <${Legend} />`}
    ${active.result && names.length === 0 && html`<${Empty}>No job has anything in this time${query || group || show !== 'active' ? ' that is like that' : ''}.<//>`}
  </div>`;
}

const said = (count, { from, to }) => `${plural(count, 'job')}, ${inFull(from, shownZone())} to ${inFull(to, shownZone())}`;

function Select({ label, value, options, choose }) {
  return html`<select aria-label=${label} value=${value} onChange=${(event) => choose(event.target.value)}>
    ${options.map(([each, title]) => html`<option value=${each} selected=${each === value}>${title}</option>`)}
  </select>`;
}

/** "What ran at 03:00?" */
function GoTo({ place, goTo }) {
  const zone = shownZone();
  const field = useRef(null);
  const shown = place.centre === null ? '' : asWall(place.centre, zone);
  useLayoutEffect(() => void (field.current.value = shown), [shown]); // and not with each drawing: somebody may be typing
  const ask = (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get('at');
    if (text) goTo(instantOf(text, zone));
  };
  return html`<form class="goto" onSubmit=${ask}>
    <label>What ran at <input ref=${field} type="datetime-local" name="at" step="1" /></label>
    <button>Go</button>
  </form>`;
}

const asAddressed = ({ show, sort, ...rest }) => ({ ...rest, show: show === 'active' ? '' : show, sort: sort === 'name' ? '' : sort });

/** The place in time: {centre, span} in ms, as the address has it; a centre of null is the present. The address follows. */
function usePlace(route) {
  const { at = '', span = USUAL_SPAN } = route.query;
  const addressed = `${at} ${span}`;
  const written = useRef(addressed);
  const read = () => ({ centre: Number.isNaN(Date.parse(at)) ? null : Date.parse(at), span: readSpan(span, readSpan(USUAL_SPAN)) });
  const [place, setPlace] = useState(read);
  useEffect(() => {
    if (written.current !== addressed) setPlace(read()); // somebody else has changed it: back, a link
    written.current = addressed;
  }, [addressed]);
  useEffect(() => {
    const timer = setTimeout(() => {
      const said = { at: place.centre === null ? '' : new Date(place.centre).toISOString().slice(0, 19) + 'Z', span: writeSpan(place.span) };
      if (said.at === at && said.span === span) return;
      written.current = `${said.at} ${said.span}`;
      adjust(address('timeline', [], { ...route.query, ...said, span: said.span === USUAL_SPAN ? '' : said.span }));
      written.current = `${said.at} ${said.span}`;
    }, ADDRESSED_MS);
    return () => clearTimeout(timer);
  }, [place, addressed]);
  return [place, setPlace];
}

// --- what is asked for ----------------------------------------------------------------------------

/** Which jobs have anything in the window; the last answer stays until the next has come. */
function useActive(window, { centre, span }, model) {
  const asked = useSettled(asAsked(window, centre === null ? span / 20 : span / 1000));
  const answer = useAnswer('getActive', asked, centre === null ? model.version : 0, ACTIVE_APART_MS);
  return useKept(answer);
}

function useBars(names, window, { centre, span }, model) {
  const margin = span / 2;
  const wider = { from: window.from - margin, to: window.to + margin };
  const asked = useSettled({ crons: names, ...asAsked(wider, span / 20), grain: Math.round(span / 300_000) });
  const answer = useAnswer('getBars', asked.crons.length ? asked : null, isNow(wider) ? model.version : 0, APART_MS);
  const kept = useRef({ rows: new Map(), version: 0, of: null });
  if (answer.result && kept.current.of !== answer.result) {
    const rows = kept.current.rows.size > KEPT ? new Map() : kept.current.rows;
    for (const name of asked.crons) rows.delete(name);
    for (const [name, row] of asRows(answer.result)) rows.set(name, row);
    kept.current = { rows, version: kept.current.version + 1, of: answer.result };
  }
  return { ...kept.current, error: answer.error };
}

const isNow = ({ from, to }) => from < Date.now() && to > Date.now();

/** The window on whole steps, so that following the present does not ask anew each second. */
function asAsked({ from, to }, step) {
  const whole = Math.max(1000, step);
  const iso = (ms) => new Date(ms).toISOString();
  return { start_date: iso(Math.floor(from / whole) * whole), end_date: iso(Math.ceil(to / whole) * whole) };
}

function useSettled(value) {
  const key = JSON.stringify(value);
  const [settled, settle] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => settle(value), SETTLED_MS);
    return () => clearTimeout(timer);
  }, [key]);
  return settled;
}

// --- which jobs -----------------------------------------------------------------------------------

/** The names of the jobs to show, in order; those that the configuration has lost keep their past. */
function filtered(model, answer, { query, group, show, sort }) {
  const active = answer?.crons ?? {};
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const known = show === 'all' ? [...new Set([...model.jobs.keys(), ...Object.keys(active)])] : Object.keys(active);
  const found = known.filter((name) => {
    const job = model.jobs.get(name);
    if (group && job?.group !== group) return false;
    if (['failed', 'passed'].includes(show) && !active[name][show]) return false;
    const haystack = job?.haystack ?? name.toLowerCase();
    return words.every((word) => haystack.includes(word));
  });
  return found.sort(ORDERS[sort]?.(model, active) ?? ORDERS.name());
}

const byName = new Intl.Collator(undefined, { numeric: true }).compare;
const ORDERS = {
  name: () => byName,
  group: (model) => (one, other) => byName(model.jobs.get(one)?.group ?? '', model.jobs.get(other)?.group ?? '') || byName(one, other),
  start: (_model, active) => {
    const first = (name) => active[name]?.began ?? active[name]?.coming ?? '9';
    return (one, other) => (first(one) < first(other) ? -1 : first(one) > first(other) ? 1 : byName(one, other));
  },
};

// --- what one does --------------------------------------------------------------------------------

function open(item, goTo) {
  if (item.kind !== 'run') location.hash = jobAddress(item.job);
  else if (item.runs > 1 && item.to - item.from > 60_000) goTo({ from: item.from - (item.to - item.from) * 0.2, to: item.to + (item.to - item.from) * 0.2 });
  else location.hash = runAddress(item.run);
}

function useTimelineKeys({ lines, window, goTo, chosen, choose, zoom, pan, live, search, change, view, now }) {
  const index = chosen?.index ?? -1;
  const reach = (next, item) => {
    choose({ index: next, item });
    if (item && (item.from > window.to || (item.to ?? now) < window.from)) goTo(moved(window, item.from - (window.from + window.to) / 2));
  };
  const row = (by) => () => {
    const next = Math.max(0, Math.min(lines.length - 1, index + by));
    if (lines.length) reach(next, nearest(lines[next].row, chosen?.item?.from ?? Math.min(now, (window.from + window.to) / 2), Infinity));
  };
  const along = (by) => () => {
    const items = lines[index]?.row?.items ?? [];
    const at = items.indexOf(chosen?.item);
    if (items.length) reach(index, items[Math.max(0, Math.min(items.length - 1, at < 0 ? items.length - 1 : at + by))]);
  };
  const enter = () => {
    if (chosen?.item) open(chosen.item, () => zoom(0.25, chosen.item.from));
    else if (index >= 0) location.hash = jobAddress(lines[index].name);
  };
  useKeys({
    '/': () => search.current.focus(),
    ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), '+': () => zoom(0.5), '=': () => zoom(0.5), '-': () => zoom(2),
    n: () => live(), l: () => change({ view: view === 'list' ? '' : 'list' }),
    j: row(1), ArrowDown: row(1), k: row(-1), ArrowUp: row(-1), ']': along(1), '[': along(-1), Enter: enter,
    Escape: () => (document.activeElement === search.current ? search.current.blur() : chosen ? choose(null) : change({ q: '' })),
  });
}
