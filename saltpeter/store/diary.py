"""The daemon writes down that it is there: see `lives`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import trio

from saltpeter.errors import StoreError
from saltpeter.logs import fields

log = logging.getLogger(__name__)

MARK_EVERY_S = 30.0
_LAST_WORD_S = 3.0


class Diary(Protocol):
    """The part of the store that is written here."""

    async def seen(self, at: datetime, *, ending: bool = False) -> None: ...


async def live(
    diary: Diary, now: Callable[[], datetime], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """The service: write down that this daemon is there, until it is cancelled. A full disk does not end it."""
    await _mark(diary, now())
    task_status.started()
    try:
        while True:
            await trio.sleep(MARK_EVERY_S)
            await _mark(diary, now())
    finally:
        with trio.move_on_after(_LAST_WORD_S, shield=True):
            await _mark(diary, now(), ending=True)


async def _mark(diary: Diary, at: datetime, *, ending: bool = False) -> None:
    try:
        await diary.seen(at, ending=ending)
    except StoreError as error:
        log.debug("Could not write down that the daemon lives: %s", error, extra=fields("store.failed"))
