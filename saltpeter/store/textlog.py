"""A text log for each job in `logdir`, for grep and tail: `<ISO time> <job_instance> <machine> <text>`.

A copy for people. The ledger and the stored output are the truth, so nothing ever waits for these files; they are
written by `textfiles`, in the process that writes the store.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

import attrs
import trio
from typing_extensions import assert_never

from saltpeter.domain.events import (
    Awaited,
    Bound,
    CameLate,
    Confirmed,
    Ended,
    ExecutionId,
    HoldEnded,
    HoldSet,
    KillRequested,
    Launched,
    LedgerEvent,
    Retrying,
    RunEnded,
    RunStarted,
    SlotPassed,
    Started,
    Targeted,
)
from saltpeter.domain.filenames import as_file_name
from saltpeter.domain.outcome import Outcome
from saltpeter.logs import fields
from saltpeter.store.process import Lane
from saltpeter.store.textfiles import Entry

log = logging.getLogger(__name__)

MAX_LINE = 8 * 1024  # bytes of output in one line; a longer one goes on in the next
MAX_QUEUED = 16 * 1024 * 1024  # bytes that wait for the disk; past it lines are left out
ENTRY_BYTES = 200  # that an entry takes beside its text
GATHER_S = 0.1  # more lines for one write
FLUSH_S = 2.0  # at the end, for what is waiting
_NOBODY = "-"  # stands for the machine where a whole run is meant


@attrs.define
class LineCutter:
    """Makes lines of the chunks in which output arrives, however it was cut. Blocks are lines with newlines between
    them, and without one at the end: output may be so much that no line of it can be looked at by itself."""

    _begun: dict[ExecutionId, bytes] = attrs.field(factory=dict, init=False)

    def feed(self, execution: ExecutionId, data: bytes) -> list[bytes]:
        block, newline, begun = (self._begun.pop(execution, b"") + data).rpartition(b"\n")
        blocks = [block] if newline else []
        while len(begun) > MAX_LINE:
            blocks.append(begun[:MAX_LINE])
            begun = begun[MAX_LINE:]
        if begun:
            self._begun[execution] = begun
        return blocks

    def finish(self, execution: ExecutionId) -> list[bytes]:
        """The last line, if it has no end."""
        begun = self._begun.pop(execution, b"")
        return [begun] if begun else []


@attrs.define
class TextLogs:
    """`post` and `output` queue lines and return at once; `run` hands them on."""

    _lane: Lane  # to `textfiles`
    _cutter: LineCutter = attrs.field(factory=LineCutter, init=False)
    _queue: deque[Entry] = attrs.field(factory=deque, init=False)
    _queued: int = attrs.field(default=0, init=False)  # bytes
    _left_out: int = attrs.field(default=0, init=False)  # lines, since the queue was full
    _arrived: trio.Event = attrs.field(factory=trio.Event, init=False)
    _failing: bool = attrs.field(default=False, init=False)
    _closing: trio.Event = attrs.field(factory=trio.Event, init=False)
    _scope: trio.CancelScope = attrs.field(factory=lambda: trio.CancelScope(shield=True), init=False)

    def post(self, event: LedgerEvent) -> None:
        if isinstance(event, (Ended, CameLate)):
            self._add_blocks(event.execution, self._cutter.finish(event.execution), event.at)
        for entry in describe(event):
            self._add(entry)

    def output(self, execution: ExecutionId, data: bytes, at: datetime) -> None:
        """`data` follows what was handed over before: nothing twice."""
        self._add_blocks(execution, self._cutter.feed(execution, data), at)

    async def run(self) -> None:
        """The service; ends after `close`, when nothing waits any more. Cancelling it does not end it sooner. Raises
        StoreError when nobody writes any more."""
        with self._scope:
            while not self._closing.is_set() or self._queue:
                await self._arrived.wait()
                with trio.move_on_after(GATHER_S):
                    await self._closing.wait()
                await self._hand_on()

    def close(self) -> None:
        """What is waiting is still written, within FLUSH_S."""
        self._closing.set()
        self._scope.deadline = trio.current_time() + FLUSH_S
        self._arrived.set()

    def _add_blocks(self, execution: ExecutionId, blocks: Sequence[bytes], at: datetime) -> None:
        for block in blocks:
            self._add((at, execution.run, execution.machine, block))

    def _add(self, entry: Entry) -> None:
        text = entry[3]
        size = len(text) + ENTRY_BYTES
        if self._queued + size > MAX_QUEUED:
            self._left_out += text.count(b"\n") + 1 if isinstance(text, bytes) else 1
            return
        self._queue.append(entry)
        self._queued += size
        self._arrived.set()

    async def _hand_on(self) -> None:
        by_file: dict[str, list[Entry]] = {}
        for entry in self._queue:
            by_file.setdefault(_file_of_run(entry[1]), []).append(entry)
        left_out = self._left_out
        self._queue.clear()
        self._queued = self._left_out = 0
        self._arrived = trio.Event()
        if left_out:
            log.warning("The text logs fell behind, %d lines are missing", left_out, extra=fields("textlog.overrun"))
        if not by_file:
            return
        problem: str = await self._lane.write(by_file)
        if problem and not self._failing:  # once, and not for each line until somebody makes room
            log.error("Cannot write the text logs: %s", problem, extra=fields("textlog.failed", error=problem))
        self._failing = bool(problem)


@lru_cache(maxsize=1024)
def _file_of_run(run: str) -> str:
    return file_name(run.rpartition("_")[0])


def file_name(job: str) -> str:
    """A name for the job's log that is safe whatever the job is called."""
    return f"{as_file_name(job)}.log"


def describe(event: LedgerEvent) -> list[Entry]:
    """The lines that `event` is worth."""
    match event:
        case RunStarted() | SlotPassed() | KillRequested() | RunEnded():
            return _describe_run(event)
        case Retrying() | Started() | Ended() | CameLate():
            execution = event.execution
            return [(event.at, execution.run, execution.machine, text) for text in _describe_execution(event)]
        case Awaited() | Targeted() | Launched() | Confirmed() | Bound() | HoldSet() | HoldEnded():
            return []
        case _:
            assert_never(event)


def _describe_run(event: RunStarted | SlotPassed | KillRequested | RunEnded) -> list[Entry]:
    at = event.at
    match event:
        case RunStarted():
            return [(at, event.run, _NOBODY, f"started by {event.by}")]
        case SlotPassed():
            instance = f"{event.job}_{event.slot.timestamp():.0f}"
            return [(at, instance, _NOBODY, f"did not run: {event.reason.value} {event.text}".rstrip())]
        case KillRequested():
            machines = event.machines or (_NOBODY,)
            return [(at, event.run, machine, f"kill requested by {event.by}") for machine in machines]
        case RunEnded():
            return [(at, event.run, _NOBODY, f"ended: {event.verdict.value} {event.text}".rstrip())]
        case _:
            assert_never(event)


def _describe_execution(event: Retrying | Started | Ended | CameLate) -> list[str]:
    match event:
        case Retrying():
            return [f"trying again (attempt {event.execution.attempt})"]
        case Started():
            return [f"started (PID: {event.pid})"]
        case Ended():
            return _describe_end("ended", event.outcome)
        case CameLate():
            return _describe_end("reported late", event.outcome)
        case _:
            assert_never(event)


def _describe_end(word: str, outcome: Outcome) -> list[str]:
    return [*outcome.text.splitlines(), f"{word}: {outcome.end.value} (exit code: {outcome.code})"]
