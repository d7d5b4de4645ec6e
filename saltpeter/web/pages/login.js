// The question for a token, where the daemon wants one.

import { Failure } from '../parts.js';
import { logIn } from '../session.js';
import { html, useEffect, useRef, useState } from '../ui.js';

export function Login() {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const show = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(await logIn(field.current.value.trim()).then(() => null, (problem) => problem));
    setBusy(false);
  };
  return html`<form class="login" onSubmit=${show}>
    <h1>Log in</h1>
    <p class="muted">This daemon wants to know who you are. Whoever runs it makes a token for you with <code>saltpeter token add</code>.</p>
    <label>Token <input ref=${field} type="password" name="token" autocomplete="current-password" required maxlength="256" spellcheck="false" /></label>
    ${error && html`<${Failure} error=${error} />`}
    <div class="buttons"><button class="primary" disabled=${busy}>${busy ? 'A moment…' : 'Log in'}</button></div>
  </form>`;
}
