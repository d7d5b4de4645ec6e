"""What an earlier daemon left: runs to take up where they stood, and results to remember."""

from __future__ import annotations

import logging

from saltpeter.domain.job import Config, Job, Target
from saltpeter.domain.schedule import Fields, Schedule
from saltpeter.domain.state import Recalled, RunState
from saltpeter.engine.board import Board
from saltpeter.engine.runs import Runs
from saltpeter.engine.storage import Store
from saltpeter.logs import fields

log = logging.getLogger(__name__)


async def remember(store: Store, board: Board) -> None:
    """Show the newest result of each job."""
    for run in await store.last_runs():
        board.post(Recalled(run=run))


async def take_up(store: Store, board: Board, runs: Runs) -> None:
    """Go on with every run that had not ended."""
    for run in await store.unfinished():
        board.post(Recalled(run=run))
        runs.resume(run, _definition(board.state.config, run))
        log.info("Taking up %s again", run.id, extra=fields("run.adopted", run=run.id, machines=len(run.executions)))


def _definition(config: Config, run: RunState) -> Job:
    """The job as conf.d has it now; one that is gone from there is followed, and killed, with the defaults."""
    job = config.jobs.get(run.job)
    if job is not None:
        return job
    removed = Schedule(Fields(year="*"))
    return Job(name=run.job, group="", path="", line=0, schedule=removed, command="", target=Target(""), enabled=False)
