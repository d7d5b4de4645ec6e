// Who has changed what, newest first, for administrators.

import { At, Empty, Failure } from '../parts.js';
import { ask, useSession } from '../session.js';
import { html, useEffect, useState } from '../ui.js';

const AT_ONCE = 100;

export function AuditPage() {
  const { link } = useSession();
  const [{ entries, before, busy, error }, set] = useState({ entries: [], before: undefined, busy: false, error: null });
  const more = async () => {
    set((known) => ({ ...known, busy: true }));
    const asked = { limit: AT_ONCE, before };
    await ask('getAudit', asked).then(
      (page) => set((known) => ({ entries: [...known.entries, ...page.entries], before: page.before, busy: false, error: null })),
      (failure) => set((known) => ({ ...known, busy: false, error: failure })),
    );
  };
  useEffect(() => {
    if (link.live && before === undefined && !busy) more();
  }, [link.live]);
  return html`<div class="page">
    <h1>Audit</h1>
    ${error && html`<${Failure} error=${error} />`}
    ${entries.length > 0 && html`<div class="scroll-x boxed" tabindex="0" role="region" aria-label="Who has changed what"><table>
      <thead><tr><th>When</th><th>Who</th><th>From</th><th>Did</th><th>What</th><th>Result</th></tr></thead>
      <tbody>${entries.map(({ at, who, peer, did, what, result }) => html`<tr>
        <td><${At} at=${Date.parse(at)} /></td><td>${who}</td><td>${peer}</td><td>${did}</td>
        <td><code>${JSON.stringify(what)}</code></td><td class=${result === 'done' ? '' : 'bad'}>${result}</td>
      </tr>`)}</tbody>
    </table></div>`}
    ${before === null && entries.length === 0 && html`<${Empty}>Nobody has changed anything.<//>`}
    ${before && html`<p><button disabled=${busy} onClick=${more}>Older</button></p>`}
  </div>`;
}
