// What the daemon has told, as plain data. `fold` takes one message in; nothing here draws or connects.

const DETAILS_KEPT = 20; // runs that were looked at lately

/** `version` grows with every change, `jobsVersion` when the configuration has changed. */
export function emptyModel() {
  return {
    version: 0,
    jobsVersion: 0,
    spVersion: '',
    life: '', // of the daemon that has told this
    serial: 0, // up to which it has
    jobs: new Map(), // name -> Job, in the order of their names
    problems: [],
    storeProblem: '', // why nothing can be recorded, and no run starts
    maintenance: { global: false, machines: [] },
    running: new Map(), // run -> Living
    runningByJob: new Map(), // job -> its living runs, newest first
    last: new Map(), // job -> {startedAt, verdict, ok, run, nextAt}
    details: new Map(), // run -> {run, results: {machine: part}, version, serial}; the serial up to which they are told
    zone: '', // of jobs that name none; '' is not known
    complete: false, // whether the snapshot has come
  };
}

/** What a hello says of what is known already. */
export function known({ life, serial, complete }) {
  return complete ? { life, serial } : {};
}

export const collator = new Intl.Collator(undefined, { numeric: true });

const readers = {
  snapshot(model, { life, sp_version, jobs, runs, ...told }) {
    if (life !== model.life) for (const details of model.details.values()) details.serial = undefined; // they are of another life
    model.life = life;
    model.spVersion = sp_version;
    model.jobs = new Map();
    model.last = new Map();
    model.running = new Map();
    model.runningByJob = new Map();
    readers.changes(model, { jobs, runs, ...told });
    model.complete = true;
  },
  changes(model, { serial, crons, jobs = {}, runs = {}, maintenance, saltpeter_config: settings, problems, store_problem }) {
    model.serial = serial;
    if (crons) define(model, crons);
    for (const [job, told] of Object.entries(jobs)) model.last.set(job, asLast(told));
    for (const [run, told] of Object.entries(runs)) follow(model, run, told);
    model.zone = settings?.timezone ?? model.zone;
    model.maintenance = maintenance ?? model.maintenance;
    model.problems = problems ?? model.problems;
    if (store_problem !== undefined) model.storeProblem = store_problem ?? '';
    if (crons || problems) model.jobsVersion += 1;
  },
  run(model, { job_instance, serial, whole, run, results, lengths }) {
    const before = whole ? undefined : model.details.get(job_instance);
    const all = before?.results ?? Object.create(null); // a machine may be called __proto__
    Object.assign(all, results);
    for (const [machine, length] of Object.entries(lengths ?? {})) all[machine] = { ...all[machine], output_length: length };
    model.details.delete(job_instance); // so that the map has the newest last
    model.details.set(job_instance, { run: run ?? before?.run, results: all, version: model.version, serial });
    if (model.details.size > DETAILS_KEPT) model.details.delete(model.details.keys().next().value);
  },
};

function define(model, crons) {
  for (const [name, cron] of Object.entries(crons)) {
    if (cron === null) model.jobs.delete(name);
    else model.jobs.set(name, asJob(name, cron));
  }
  model.jobs = new Map([...model.jobs].sort(([one], [other]) => collator.compare(one, other)));
}

/** A living run. */
class Living {
  constructor(run, { cron, started, by }) {
    Object.assign(this, { run, job: cron, startedAt: instant(started), by, states: new Map() });
  }

  /** The machines that have not ended; `open` is how many they are, of `targets` in all. */
  get machines() {
    return [...this.states].filter(([, state]) => state !== 'ended').map(([machine]) => machine);
  }
}

/** Take in what has changed of a run; null: it lives no longer. */
function follow(model, run, told) {
  const living = told && (model.running.get(run) ?? new Living(run, told));
  const job = living?.job ?? model.running.get(run)?.job;
  if (living) {
    Object.assign(living, { targets: told.targets, open: told.open, failed: told.failed });
    for (const [machine, state] of Object.entries(told.machines)) living.states.set(machine, state);
  }
  if (Boolean(living) === model.running.has(run)) return;
  const others = (model.runningByJob.get(job) ?? []).filter((each) => each.run !== run);
  if (living) {
    model.running.set(run, living);
    model.runningByJob.set(job, [living, ...others].sort((one, other) => other.startedAt - one.startedAt));
  } else {
    model.running.delete(run);
    if (others.length) model.runningByJob.set(job, others);
    else model.runningByJob.delete(job);
  }
}

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
  const zone = keys.timezone || (['true', 'yes', 'on'].includes(String(keys.utc).toLowerCase()) ? 'UTC' : '');
  const tags = [keys.tags ?? []].flat().map(String);
  const targets = [keys.targets ?? ''].flat().join(' ');
  const schedule = scheduleAsWritten(keys);
  const searched = [name, group, keys.command, targets, keys.description, keys.owner, schedule, ...tags];
  const haystack = searched.filter(Boolean).join('\n').toLowerCase();
  return { name, group, path, line, written: keys, enabled, tags, targets, schedule, zone, haystack };
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

function asLast({ last_run, result_ok, verdict, job_instance, next_run }) {
  return { startedAt: instant(last_run), ok: result_ok, verdict, run: job_instance, nextAt: instant(next_run) };
}

/** Whether `job` counts as failing: its newest run has ended, and not well. */
export function isFailing(model, job) {
  return job.enabled && model.last.get(job.name)?.ok === false;
}

export function failing(model) {
  return [...model.jobs.values()].filter((job) => isFailing(model, job));
}
