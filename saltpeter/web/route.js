// Where one is stands in the address: `#/job/backup?…`. Names may hold anything, and are encoded.

const PATTERN = /^#?\/([a-z]*)((?:\/[^/?]*)*)(?:\?(.*))?$/;

/** {page, names, query}: the page's word, the names after it, and the parameters as a plain object. */
export function parse(hash) {
  const [, page, path, search] = PATTERN.exec(hash || '#/') ?? ['', '', '', ''];
  const names = path.split('/').slice(1).map(decode);
  return { page: page || 'now', names, query: Object.fromEntries(new URLSearchParams(search ?? '')) };
}

/** The address of a page; empty parameters are left out. */
export function address(page, names = [], query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  const search = given.length ? `?${new URLSearchParams(given)}` : '';
  return `#/${[page, ...names.map(encodeURIComponent)].join('/')}${search}`;
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // somebody typed a lone %
  }
}

export const jobAddress = (job) => address('job', [job]);
export const runAddress = (run, query) => address('run', [run], query);

/** The job of a run: `backup_1762346049` is of `backup`. */
export const jobOfRun = (run) => run.slice(0, run.lastIndexOf('_'));
