// Which jobs a table shows, and in which order.

import { collator, isFailing } from './model.js';

export const FILTERS = ['all', 'failing', 'running', 'disabled'];

/** The jobs that hold every word of `query`, pass `filter`, are of `group` ('' for any), and stand in the order of `sort`
    (`-` turns it round). */
export function find(model, { query, filter, group, sort }) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const passes = filters[filter] ?? filters.all;
  const found = [];
  for (const job of model.jobs.values()) {
    if (group && job.group !== group) continue;
    if (words.every((word) => job.haystack.includes(word)) && passes(model, job)) found.push(job);
  }
  return sorted(model, found, sort);
}

const filters = {
  all: () => true,
  failing: isFailing,
  running: (model, job) => model.runningByJob.has(job.name),
  disabled: (_model, job) => !job.enabled,
};

/** How many of the group's jobs each filter passes. */
export function countAll(model, group) {
  const jobs = [...model.jobs.values()].filter((job) => !group || job.group === group);
  return Object.fromEntries(FILTERS.map((each) => [each, jobs.filter((job) => filters[each](model, job)).length]));
}

/** The names of all groups, in order. */
export const groupsOf = (model) => [...new Set([...model.jobs.values()].map(({ group }) => group))].sort(collator.compare);

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
  if (one === other) return 0;
  if (typeof one === 'string') return collator.compare(one, other);
  return one < other ? -1 : 1; // not a difference: both may be infinite
}
