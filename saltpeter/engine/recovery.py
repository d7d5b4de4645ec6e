"""What an earlier daemon left: runs to take up where they stood, and results to remember."""

from __future__ import annotations

import logging

from saltpeter.domain.events import HoldSet, Recalled
from saltpeter.engine.board import Board
from saltpeter.engine.definition import definition
from saltpeter.engine.runs import Runs
from saltpeter.engine.storage import Store
from saltpeter.logs import fields

log = logging.getLogger(__name__)


async def remember(store: Store, board: Board) -> None:
    """Show the newest result of each job, and what is under maintenance by hand."""
    for hold in await store.holds():
        board.post(HoldSet(hold=hold, at=hold.since))
    for run in await store.last_runs():
        board.post(Recalled(run=run))


async def take_up(store: Store, board: Board, runs: Runs) -> None:
    """Go on with every run that had not ended, and with the slots that wait for one of them to end."""
    for run in await store.unfinished():
        board.post(Recalled(run=run))
        runs.resume(run, definition(board.state.config, run.job))
        log.info("Taking up %s again", run.id, extra=fields("run.adopted", run=run.id, machines=len(run.executions)))
    for job, slot in (await store.waiting()).items():
        runs.due_again(job, slot)
