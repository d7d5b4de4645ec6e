// What the daemon has told, as plain data. `fold` takes one message in; nothing here draws or connects.

const DETAILS_KEPT = 20; // runs that were looked at lately

/** `version` grows with every change, `jobsVersion` when the configuration has changed. */
export function emptyModel() {
  return {
    version: 0,
    jobsVersion: 0,
    spVersion: '',
    jobs: new Map(), // name -> Job, in the order of their names
    problems: [],
    maintenance: { global: false, machines: [] },
    running: new Map(), // run -> {run, job, startedAt, machines, targets}
    runningByJob: new Map(), // job -> its living runs, newest first
    last: new Map(), // job -> {startedAt, verdict, ok, run, nextAt}
    details: new Map(), // run -> {nextAt, verdict, results}
    complete: false, // whether the first config and status have come
  };
}

export const collator = new Intl.Collator(undefined, { numeric: true });

const readers = {
  config(model, { config, sp_version }) {
    model.spVersion = sp_version;
    const ordered = Object.entries(config.crons).sort(([one], [other]) => collator.compare(one, other));
    model.jobs = new Map(ordered.map(([name, cron]) => [name, asJob(name, cron)]));
    model.problems = config.problems ?? [];
    model.maintenance = config.maintenance;
    model.jobsVersion += 1;
  },
  status(model, { running, last_state }) {
    model.running = new Map(Object.entries(running).map(([run, told]) => [run, asLiving(run, told)]));
    model.runningByJob = byJob(model.running);
    for (const [job, told] of Object.entries(last_state)) model.last.set(job, asLast(told));
    model.complete = true;
  },
  details(model, { data }) {
    const { job_instance: run, next_run, verdict, results } = data;
    if (!run) return;
    model.details.delete(run); // so that the map has the newest last
    model.details.set(run, { nextAt: instant(next_run), verdict, results });
    if (model.details.size > DETAILS_KEPT) model.details.delete(model.details.keys().next().value);
  },
};

/** Take `message` in; whether it was one that the model knows. */
export function fold(model, message) {
  const read = readers[message.type];
  if (read === undefined) return false;
  read(model, message);
  model.version += 1;
  return true;
}

/** A time of the wire as milliseconds; null for one that is not known. */
export function instant(text) {
  return text ? Date.parse(text) : null;
}

function asJob(name, written) {
  const { group, path, line, ...keys } = written;
  const enabled = ![false, 'false', 'no', 'off'].includes(keys.enabled);
  const tags = [keys.tags ?? []].flat().map(String);
  const targets = [keys.targets ?? ''].flat().join(' ');
  const schedule = scheduleAsWritten(keys);
  const searched = [name, group, keys.command, targets, keys.description, keys.owner, schedule, ...tags];
  const haystack = searched.filter(Boolean).join('\n').toLowerCase();
  return { name, group, path, line, written: keys, enabled, tags, targets, schedule, haystack };
}

const FIELDS = ['sec', 'min', 'hour', 'dom', 'mon', 'dow', 'year'];

/** A schedule as its file has it: in one string, or its own keys in the order of a crontab. */
export function scheduleAsWritten(keys) {
  if (keys.schedule !== undefined) return String(keys.schedule);
  const given = FIELDS.filter((field) => keys[field] !== undefined && !(field === 'year' && keys[field] === '*'));
  if (given.length === 0) return '';
  const shown = FIELDS.filter((field) => given.includes(field) || !['sec', 'year'].includes(field));
  return shown.map((field) => String(keys[field] ?? '*')).join(' ');
}

function asLiving(run, { name, started, machines, targets }) {
  return { run, job: name, startedAt: instant(started), machines, targets: targets ?? machines.length };
}

function asLast({ last_run, result_ok, verdict, job_instance, next_run }) {
  return { startedAt: instant(last_run), ok: result_ok, verdict, run: job_instance, nextAt: instant(next_run) };
}

function byJob(running) {
  const found = new Map();
  for (const living of running.values()) found.set(living.job, [living, ...(found.get(living.job) ?? [])]);
  return found;
}

/** Whether `job` counts as failing: its newest run has ended, and not well. */
export function isFailing(model, job) {
  return job.enabled && model.last.get(job.name)?.ok === false;
}

export function failing(model) {
  return [...model.jobs.values()].filter((job) => isFailing(model, job));
}
