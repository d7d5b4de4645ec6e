// The page's frame: where one can go, whether what is shown is true now, and the keys that work everywhere.

import { Dialogs, closeDialog, openHelp } from './dialogs.js';
import { bindKeys } from './keys.js';
import { failing } from './model.js';
import { Operations } from './operations.js';
import { ago } from './times.js';
import { AuditPage } from './pages/audit.js';
import { Login } from './pages/login.js';
import { JobPage } from './pages/job.js';
import { JobsPage } from './pages/jobs.js';
import { MachinePage, MachinesPage } from './pages/machines.js';
import { NowPage } from './pages/now.js';
import { RunPage } from './pages/run.js';
import { TimelinePage } from './pages/timeline.js';
import { address } from './route.js';
import { applyTheme, logOut, mayAudit, session, start, switchTheme, switchZone, themeName, useNow, useSession, zoneName } from './session.js';
import { html, render, useEffect, useLayoutEffect } from './ui.js';

const PAGES = { now: NowPage, jobs: JobsPage, job: JobPage, run: RunPage, timeline: TimelinePage, machines: MachinesPage, machine: MachinePage, audit: AuditPage };
const TABS = [
  ['now', 'Now'],
  ['jobs', 'Jobs'],
  ['timeline', 'Timeline'],
  ['machines', 'Machines'],
];
const AUDIT = ['audit', 'Audit'];
const TAB_OF = { job: 'jobs', run: 'jobs', machine: 'machines' };

function App() {
  const { route, model, link, me } = useSession();
  const Page = PAGES[route.page] ?? NowPage;
  const content = me.login_required ? html`<${Login} />` : model.complete ? html`<${Page} key=${route.names.join('/')} route=${route} />` : html`<${Waiting} />`;
  useLayoutEffect(closeDialog, [route.page, ...route.names]);
  return html`
    <${Frame} tab=${TAB_OF[route.page] ?? route.page} />
    <main id="main" tabindex="-1" class=${link.live ? '' : 'old'}>${content}</main>
    <${Operations} />
    <${Dialogs} />
  `;
}

function Frame({ tab }) {
  return html`<header class="frame">
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <a class="brand" href=${address('now')}><img src="/web/icons/quiet.svg" alt="" width="20" height="20" />saltpeter</a>
    <nav aria-label="Pages">
      ${[...TABS, ...(mayAudit() ? [AUDIT] : [])].map(([page, title]) => html`<a href=${address(page)} aria-current=${page === tab ? 'page' : null}>${title}</a>`)}
    </nav>
    <${Liveness} />
    <div class="switches">
      ${session.me.by_token && html`<button class="quiet" onClick=${logOut} title=${`You are ${session.me.name}, ${session.me.role}${session.me.groups ? ` of ${session.me.groups.join(', ')}` : ''}`}>Log out</button>`}
      <button class="quiet" onClick=${switchZone} title="Times: local, UTC, or the job's zone (u)">${zoneName()}</button>
      <button class="quiet" onClick=${switchTheme} title="Light, dark, or as the system has it (t)">
        ${themeName()}<span class="unseen"> theme</span>
      </button>
      <button class="quiet" onClick=${openHelp} title="Keys (?)" aria-label="Help: keys">?</button>
    </div>
  </header>`;
}

function skip(event) {
  event.preventDefault(); // the address is taken by the page
  document.getElementById('main').focus();
}

function Liveness() {
  const { link, model, me } = useSession();
  const now = useNow() - session.clockOffset;
  useEffect(() => inTheTab(link.live, model));
  if (link.live) return html`<p class="liveness live" role="status"><i class="dot" aria-hidden="true"></i>Live</p>`;
  if (me.login_required) return html`<p class="liveness" role="status">Not logged in</p>`;
  const said = model.complete ? `Not live; last heard ${ago(Math.max(0, now - link.since))}` : 'Connecting';
  return html`<p class="liveness stale" role="status"><i class="dot" aria-hidden="true"></i><span>${said}</span>
    <button class="quiet" onClick=${() => link.retry()}>Try now</button>
  </p>`;
}

/** The browser's tab tells as well: its title and icon. */
function inTheTab(live, model) {
  const count = failing(model).length;
  const page = document.querySelector('main h1')?.textContent;
  const news = live ? count && `${count} failing` : 'not live';
  document.title = [news && `(${news})`, page, '·', 'saltpeter'].filter(Boolean).join(' ');
  const icon = `/web/icons/${live ? (count ? 'failing' : 'quiet') : 'offline'}.svg`;
  const link = document.getElementById('icon');
  if (link.getAttribute('href') !== icon) link.setAttribute('href', icon);
}

function Waiting() {
  return html`<p class="empty">Waiting for the daemon…</p>`;
}

const go = (page) => () => (location.hash = address(page));

bindKeys({ 'g n': go('now'), 'g j': go('jobs'), 'g t': go('timeline'), 'g m': go('machines'), '?': openHelp, u: switchZone, t: switchTheme });
applyTheme();
start();
render(html`<${App} />`, document.getElementById('root'));
