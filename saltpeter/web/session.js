// The one session of this page: connection, model, preferences. Components use the hooks at the end.

import { Link } from './link.js';
import { emptyModel, fold, known } from './model.js';
import { jobOfRun, parse } from './route.js';
import { useEffect, useRef, useState } from './ui.js';

const listeners = new Set();
const taps = new Set(); // who gets every message: output, receipts
let drawing = 0;
let drawn = 0; // how often all were told to draw

/** Draw again with the next frame, however often this is said until then. */
export function redraw() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    drawn += 1;
    for (const listener of [...listeners]) listener();
  }, 16);
}

const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
export const session = {
  model: emptyModel(),
  me: { name: null, role: null, login_required: false, by_token: false, groups: null }, // as /whoami tells
  clockOffset: 0, // ms to add to this machine's clock for the daemon's
  route: parse(location.hash),
  link: new Link(`${scheme}://${location.host}/ws`, hello, heard, changed),
};

function hello() {
  return { protocol: 2, ...known(session.model) };
}

function heard(message) {
  if (fold(session.model, message)) redraw();
  for (const tap of [...taps]) tap(message);
}

function changed(live) {
  if (live) learnClock(); // all else is told without being asked for
  else learnMe();
  redraw();
}

async function learnClock() {
  const asked = Date.now();
  try {
    const answer = await (await fetch('/healthz')).json();
    const offset = Date.parse(answer.now) - (asked + Date.now()) / 2;
    const doubt = (Date.now() - asked) / 2;
    session.clockOffset = Math.abs(offset) > doubt ? offset : 0;
  } catch {
    session.clockOffset = 0; // it went again; the next connection asks again
  }
}

/** Learn who we are here. Without a login where one is needed, there is no point in connecting. */
async function learnMe() {
  try {
    session.me = await (await fetch('/whoami')).json();
  } catch {
    return; // the daemon is away: the link comes back, or this is asked again
  }
  if (session.me.login_required) session.link.rest();
  redraw();
}

/** Show `token` to the daemon. Raises an Error with what it says if it is not good. */
export async function logIn(token) {
  const answer = await fetch('/login', { method: 'POST', body: JSON.stringify({ token }), headers: { 'Content-Type': 'application/json' } });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error.message);
  session.me = told;
  session.link.retry();
  redraw();
}

export async function logOut() {
  await fetch('/logout', { method: 'POST' });
  location.reload(); // nothing that was seen stays
}

export async function start() {
  addEventListener('hashchange', () => {
    session.route = parse(location.hash);
    redraw();
  });
  const retry = () => session.me.login_required || session.link.retry();
  addEventListener('online', retry);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw); // what is drawn by hand
  document.addEventListener('visibilitychange', () => document.hidden || retry());
  await learnMe();
  if (!session.me.login_required) session.link.retry();
}

/** Whether the person may run and kill: a button that would be refused is not shown. */
export const mayAct = () => session.me.role !== 'viewer';

/** Whether they may also put machines under maintenance, which concerns everybody's jobs. */
export const mayHold = () => mayAct() && !session.me.groups;

export const mayAudit = () => session.me.role === 'admin' && !session.me.groups;

export const now = () => Date.now() + session.clockOffset;
export const ask = (verb, value, onId) => session.link.request(verb, value, onId);

/** Call `tap` with every message until the returned function is called. */
export function listen(tap) {
  taps.add(tap);
  return () => taps.delete(tap);
}

/** Change parameters of the address without a step in the history. */
export function adjust(address) {
  history.replaceState(null, '', address);
  session.route = parse(location.hash);
  redraw();
}

// --- preferences ---------------------------------------------------------------------------------

const KEYS = { zone: 'saltpeter.zone', theme: 'saltpeter.theme', wrap: 'saltpeter.wrap', columns: 'saltpeter.columns' };

export function preference(name) {
  try {
    return localStorage.getItem(KEYS[name]) ?? '';
  } catch {
    return ''; // storage may be forbidden
  }
}

export function prefer(name, value) {
  try {
    localStorage.setItem(KEYS[name], value);
  } catch {
    // it holds for this page only
  }
  if (name === 'theme') applyTheme(value);
  redraw();
}

export function applyTheme(theme = preference('theme')) {
  document.documentElement.dataset.theme = theme || 'system';
}

const ZONES = { '': 'Local', utc: 'UTC', job: "Job's zone" };
const chosenZone = () => (preference('zone') in ZONES ? preference('zone') : '');
export const zoneName = () => ZONES[chosenZone()];
export const switchZone = () => {
  const names = Object.keys(ZONES);
  prefer('zone', names[(names.indexOf(chosenZone()) + 1) % names.length]);
};

/** The zone in which times are shown: '' for the browser's. That of a job holds where one job is shown. */
export function shownZone() {
  if (chosenZone() !== 'job') return chosenZone() && 'UTC';
  const { page, names } = session.route;
  const job = session.model.jobs.get(page === 'run' ? jobOfRun(names[0] ?? '') : names[0]);
  return ['job', 'run'].includes(page) && job ? job.zone || session.model.zone : '';
}

const THEMES = ['system', 'light', 'dark'];
const theme = () => preference('theme') || 'system';
export const themeName = () => theme()[0].toUpperCase() + theme().slice(1);
export const switchTheme = () => prefer('theme', THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);

// --- hooks ---------------------------------------------------------------------------------------

/** Draw the component again whenever anything has changed. */
export function useSession() {
  const [, touch] = useState(0);
  const before = drawn;
  useEffect(() => {
    const listener = () => touch((count) => count + 1);
    listeners.add(listener);
    if (drawn !== before) listener(); // an effect comes later than the drawing: what came between was not heard
    return () => listeners.delete(listener);
  }, []);
  return session;
}

/** The daemon's time, anew every second. */
export function useNow() {
  const [at, set] = useState(now);
  useEffect(() => {
    const timer = setInterval(() => set(now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return Math.max(at, now());
}

/** The answer to a request: {result, error, busy}. Asked again when the connection is back or `again` changes,
    yet at most every `apartMs`; the last answer stays until then. */
export function useAnswer(verb, value, again = 0, apartMs = 1000) {
  const key = JSON.stringify([verb, value]);
  const [answer, set] = useState({ key, busy: true });
  const [lastAsked] = useState({ at: 0, key: '', wanted: '' });
  const live = useSession().link.live;
  useEffect(() => {
    lastAsked.wanted = live ? key : null; // an answer on its way is welcome, also when the same was to be asked again
    return () => (lastAsked.wanted = null);
  }, [key, live]);
  useEffect(() => {
    if (!live || value === null) return undefined;
    const wait = lastAsked.key === key ? Math.max(0, lastAsked.at + apartMs - Date.now()) : 0;
    const timer = setTimeout(async () => {
      Object.assign(lastAsked, { at: Date.now(), key });
      const got = await ask(verb, value).then((result) => ({ result }), (error) => ({ error }));
      if (lastAsked.wanted === key) set({ key, ...got });
    }, wait);
    return () => clearTimeout(timer);
  }, [key, live, again]);
  return answer.key === key ? answer : { key, busy: true };
}

/** `answer`, with the last result for as long as the next has not come. */
export function useKept(answer) {
  const kept = useRef(undefined);
  if (answer.result) kept.current = answer.result;
  return { result: kept.current, error: answer.error };
}

/** All about a run, as it goes: {told: {run, results, version}, error}; `told` is undefined until it has come. */
export function useRun(job, run) {
  const { link, model } = useSession();
  const [error, set] = useState(null);
  useEffect(() => {
    if (!link.live) return;
    const { serial } = model.details.get(run) ?? {};
    ask('subscribe', { cron: job, job_instance: run, output: false, serial }).then(() => set(null), set);
  }, [job, run, link.live]);
  useEffect(() => () => void ask('unsubscribe', job).catch(() => {}), [job]); // without a connection there is none either
  return { told: model.details.get(run), error };
}
