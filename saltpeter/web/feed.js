// The output of one machine in one run: as it comes, and as it is stored.

import { ask, listen, useSession } from './session.js';
import { Screen } from './terminal.js';
import { useEffect, useMemo, useRef, useState } from './ui.js';

const DRAW_MS = 40; // output that comes faster than this is drawn together
const PIECES = 64; // of up to 64 KiB, in one answer

/** The output as it has come so far, for as long as somebody looks at it. No gaps and no repeats, whatever breaks. */
class Feed {
  constructor({ job, run, machine }, onChange) {
    Object.assign(this, { job, run, machine });
    this._onChange = onChange;
    this.forget();
  }

  forget() {
    this.screen = new Screen();
    this.position = 0; // UTF-16 code units, as the daemon counts them
    this.complete = false;
  }

  /** Begin, or go on after the connection was lost. */
  async subscribe() {
    const { job: cron, run: job_instance, machine, position } = this;
    this.error = await ask('subscribe', { cron, job_instance, machine, position }).then(() => null, (error) => error);
    this._onChange();
  }

  take({ type, instance, machine, chunk, position, is_complete }) {
    if (type !== 'output_chunk' || instance !== this.run || machine !== this.machine) return;
    if (position > this.position) return void this.subscribe(); // something was lost: from where we are
    if (position === 0 && this.position > 0) this.forget(); // the daemon has begun again
    const fresh = chunk.slice(this.position - position);
    this.position += fresh.length;
    this.complete = is_complete;
    this.screen.write(fresh);
    this._onChange();
  }
}

export function useFeed(job, run, machine) {
  const [, touch] = useState(0);
  const timer = useRef(0);
  const draw = () => {
    timer.current ||= setTimeout(() => {
      timer.current = 0;
      touch((count) => count + 1);
    }, DRAW_MS);
  };
  const feed = useMemo(() => new Feed({ job, run, machine }, draw), []);
  const live = useSession().link.live;
  useEffect(() => {
    const deaf = listen((message) => feed.take(message));
    return () => {
      deaf();
      clearTimeout(timer.current);
      ask('unsubscribe', { cron: job, machine }).catch(() => {}); // without a connection there is no subscription either
    };
  }, []);
  useEffect(() => {
    if (live) feed.subscribe();
  }, [live]);
  return feed;
}

/** Save the output byte for byte as the command wrote it, all `attempts` one after the other. `onBytes` is told how many
    there are so far. Rejects when the connection is lost. */
export async function download({ run, machine, attempts }, onBytes) {
  const parts = [];
  let size = 0;
  for (let attempt = 1; attempt <= attempts; attempt += 1) {
    for await (const part of stored({ run, machine, attempt })) {
      parts.push(part);
      onBytes((size += part.length));
    }
  }
  save(new Blob(parts, { type: 'application/octet-stream' }), `${run}_${machine}.log`);
}

async function* stored({ run, machine, attempt }) {
  for (let position = 0; ; ) {
    const value = { job_instance: run, machine, attempt, position, limit: PIECES, raw: true };
    const { data_b64, next, is_complete } = await ask('getOutput', value);
    if (data_b64) yield Uint8Array.from(atob(data_b64), (character) => character.charCodeAt(0));
    if (is_complete || next === position) return;
    position = next;
  }
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
