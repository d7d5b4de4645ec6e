// The states of runs and of machines' parts, and their words. Pure.

export const WORDS = {
  ok: 'succeeded',
  failed: 'failed',
  running: 'running',
  paused: 'paused',
  waiting: 'waiting',
  killed: 'killed',
  timeout: 'timed out',
  lost: 'lost',
  skipped: 'left out',
};

const OF_OUTCOME = {
  timeout: 'timeout',
  killed: 'killed',
  refused: 'skipped',
  lost: 'lost',
  no_response: 'lost',
  error: 'failed',
  maintenance: 'skipped',
};
const OF_VERDICT = { success: 'ok', failed: 'failed', killed: 'killed', no_targets: 'skipped' };

/** The state of a machine's part, from its outcome and code. */
export function stateOfOutcome(outcome, retcode) {
  if (outcome === 'exited') return Number(retcode) === 0 ? 'ok' : 'failed';
  return OF_OUTCOME[outcome] ?? 'failed';
}

/** The state of a run from its verdict; a run without one is running. */
export const stateOfVerdict = (verdict) => (verdict ? (OF_VERDICT[verdict] ?? 'failed') : 'running');
