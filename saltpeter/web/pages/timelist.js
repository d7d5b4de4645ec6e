// The timeline as a list: the same, for who reads it line by line.

import { asRows, inWords } from '../bars.js';
import { At, Empty, Failure, Lasting, State } from '../parts.js';
import { jobAddress, runAddress } from '../route.js';
import { shownZone, useAnswer, useNow, useSession } from '../session.js';
import { clock } from '../times.js';
import { html, useMemo } from '../ui.js';

const JOBS = 200; // that are listed
const SHOWN = 500; // lines
const APART_MS = 3000;
const STEP_MS = 10_000;

export function TimeList({ names, window }) {
  const { model } = useSession();
  const now = useNow();
  const iso = (ms) => new Date(Math.round(ms / STEP_MS) * STEP_MS).toISOString();
  const asked = names.length ? { crons: names.slice(0, JOBS), start_date: iso(window.from), end_date: iso(window.to) } : null;
  const { result, error, busy } = useAnswer('getBars', asked, model.version, APART_MS);
  const items = useMemo(() => (result ? [...asRows(result).values()].flatMap((row) => row.items).sort((one, other) => one.from - other.from) : []), [result]);
  const left = items.length - SHOWN;
  return html`<div class="timelist scroll-x boxed">
    ${error && html`<${Failure} error=${error} />`}
    ${!busy && !error && items.length === 0 && html`<${Empty}>Nothing ran in this time.<//>`}
    ${items.length > 0 && html`<table aria-label="What ran">
      <thead><tr><th>Started</th><th>Job</th><th>State</th><th class="number">Took</th><th>About it</th></tr></thead>
      <tbody>${items.slice(0, SHOWN).map((item) => html`<${Line} item=${item} now=${now} />`)}</tbody>
    </table>`}
    ${(left > 0 || names.length > JOBS) && html`<p class="muted more">${[left > 0 && `${left} later lines are left out`, names.length > JOBS && `only the first ${JOBS} jobs are listed`].filter(Boolean).join('; ')}: show less time, or search.</p>`}
  </div>`;
}

function Line({ item, now }) {
  const { title, text } = inWords(item, (at) => clock(at, { zone: shownZone(), now }), now);
  const link = item.kind === 'run' ? runAddress(item.run) : jobAddress(item.job);
  return html`<tr>
    <td><a href=${link}><${At} at=${item.from} /></a></td>
    <td><a href=${jobAddress(item.job)}>${item.job}</a></td>
    <td><${State} state=${item.state} word=${item.kind === 'coming' ? 'to come' : item.kind === 'passed' ? 'did not run' : title} /></td>
    <td class="number">${item.kind === 'run' ? html`<${Lasting} from=${item.from} to=${item.to} />` : ''}</td>
    <td class="muted">${item.kind === 'passed' ? `${title.replace('did not run: ', '')}. ${text}` : ''}</td>
  </tr>`;
}
