"""Facts on their way: first durable, then visible, then counted."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from math import inf
from typing import Protocol, TypeVar

import attrs
import trio

from saltpeter.domain.events import LedgerEvent, StoreFares
from saltpeter.engine.board import Board
from saltpeter.engine.storage import Store
from saltpeter.errors import StoreError, StoreRefused
from saltpeter.logs import fields

T = TypeVar("T")

log = logging.getLogger(__name__)

_RETRY_S = 2.0


class Observer(Protocol):
    """Counts what was recorded; returns at once."""

    def post(self, event: LedgerEvent) -> None: ...

    def output(self, size: int) -> None:
        """So many bytes of output, none of them twice."""


@attrs.frozen
class Observers:
    """Several, who are told the same. Implements `Observer`."""

    observers: tuple[Observer, ...]

    def post(self, event: LedgerEvent) -> None:
        for observer in self.observers:
            observer.post(event)

    def output(self, size: int) -> None:
        for observer in self.observers:
            observer.output(size)


def _nobody(_seconds: float) -> None:
    pass


@attrs.frozen
class Recorder:
    """Writes facts to the ledger and then shows them on the board. `took` is told how long that was."""

    store: Store
    board: Board
    observer: Observer
    took: Callable[[float], None] = _nobody

    async def once(self, *events: LedgerEvent) -> None:
        """Record `events`, all or none, whoever is cancelled meanwhile. Raises StoreError when the store cannot."""
        begun = trio.current_time()
        await self.store.commit(*events)
        self.took(trio.current_time() - begun)
        for event in events:
            self.board.post(event)
            self.observer.post(event)

    async def surely(self, *events: LedgerEvent) -> None:
        """Record `events` however long the store needs: what happened on a machine must not be forgotten.

        Raises StoreRefused.
        """
        await persistently(lambda: self.once(*events))


def _for_ever() -> float:
    return inf


async def persistently(write: Callable[[], Awaitable[T]], patience_s: Callable[[], float] = _for_ever) -> T:
    """Do `write` until the store can: a disk that is full does not stay so.

    Raises StoreRefused; also StoreError, when the store could not in so many seconds after it first failed.
    """
    give_up_at: float | None = None
    while True:
        try:
            return await write()
        except StoreRefused:
            raise
        except StoreError as error:
            if give_up_at is None:
                give_up_at = trio.current_time() + patience_s()
            if trio.current_time() + _RETRY_S >= give_up_at:
                raise
            log.debug("The store cannot write, trying again: %s", error, extra=fields("store.failed"))
        await trio.sleep(_RETRY_S)


def telling_of_the_store(board: Board, now: Callable[[], datetime]) -> Callable[[str | None], None]:
    """Say in the log and on the board that the store cannot write, and why; with None, that it can again."""

    def fares(problem: str | None) -> None:
        if problem is None:
            log.warning("The store can write again", extra=fields("store.recovered"))
        elif board.state.store_problem is None:  # else it is told already, and only more or less of it fails
            text = "The store cannot write: %s. Until it can, no run starts and nothing is acknowledged"
            log.error(text, problem, extra=fields("store.failed", error=problem))
        board.post(StoreFares(problem=problem, at=now()))

    return fares
