// Which jobs a table shows, and in which order.

import { collator, isFailing } from './model.js';

export const FILTERS = ['all', 'failing', 'running', 'disabled'];

/** The jobs that hold every word of `query`, pass `filter`, and stand in the order of `sort` (`-` turns it round). */
export function find(model, { query, filter, sort }) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const passes = filters[filter] ?? filters.all;
  const found = [];
  for (const job of model.jobs.values()) {
    if (words.every((word) => job.haystack.includes(word)) && passes(model, job)) found.push(job);
  }
  return sorted(model, found, sort);
}

export const filters = {
  all: () => true,
  failing: isFailing,
  running: (model, job) => model.runningByJob.has(job.name),
  disabled: (_model, job) => !job.enabled,
};

// without one, the order stays that of the names
const keys = {
  group: (_model, job) => job.group,
  next: (model, job) => (job.enabled ? model.last.get(job.name)?.nextAt : null) ?? Infinity,
  last: (model, job) => -(model.last.get(job.name)?.startedAt ?? -Infinity),
  running: (model, job) => -(model.runningByJob.get(job.name)?.length ?? 0),
};

function sorted(model, jobs, sort) {
  const down = sort.startsWith('-');
  const ordered = inOrder(jobs, keys[sort.replace('-', '')], model);
  return down ? ordered.reverse() : ordered;
}

function inOrder(jobs, key, model) {
  if (key === undefined) return jobs;
  const keyed = jobs.map((job) => [key(model, job), job]);
  keyed.sort(([one], [other]) => compared(one, other));
  return keyed.map(([, job]) => job);
}

function compared(one, other) {
  if (typeof one === 'string') return collator.compare(one, other);
  return one < other ? -1 : one > other ? 1 : 0; // not a difference: both may be infinite
}
