"""A text log for each job in `logdir`, for grep and tail: `<ISO time> <job_instance> <machine> <text>`.

A copy for people. The ledger and the stored output are the truth, so nothing ever waits for these files.
"""

from __future__ import annotations

import logging
import string
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

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
from saltpeter.logs import escape, escape_lines, fields

log = logging.getLogger(__name__)

MAX_LINE = 8 * 1024  # bytes of output in one line; a longer one goes on in the next
MAX_QUEUED = 16 * 1024 * 1024  # bytes that wait for the disk; past it lines are left out
ENTRY_BYTES = 200  # that an entry takes beside its text
GATHER_S = 0.1  # more lines for one write, since each costs a thread's turn
FLUSH_S = 2.0
_NOBODY = "-"  # stands for the machine where a whole run is meant
_PLAIN = (string.ascii_letters + string.digits + string.punctuation + " \t\n").encode()


@attrs.frozen
class Entry:
    """One or more lines of a job's log, without a newline at the end: what a command wrote, or our own words."""

    at: datetime
    run: str
    machine: str
    text: bytes
    is_output: bool = False

    @property
    def job(self) -> str:
        return self.run.rpartition("_")[0]

    def lines(self) -> bytes:
        """As they stand in the log: harmless, and each with its head."""
        text = shown(self.text) if self.is_output else self.text
        at = self.at.isoformat(timespec="milliseconds")
        head = f"{at} {escape(self.run)} {escape(self.machine)} ".encode()
        return b"".join((head, text.replace(b"\n", b"\n" + head), b"\n"))


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
    """`post` and `output` queue lines and return at once; `run` writes them.

    A file that would grow past `max_bytes` is rotated, and `keep` old ones are kept.
    """

    logdir: Path
    max_bytes: int = 10 * 1024 * 1024
    keep: int = 5
    _cutter: LineCutter = attrs.field(factory=LineCutter, init=False)
    _queue: deque[Entry] = attrs.field(factory=deque, init=False)
    _queued: int = attrs.field(default=0, init=False)  # bytes
    _left_out: int = attrs.field(default=0, init=False)  # lines, since the queue was full
    _arrived: trio.Event = attrs.field(factory=trio.Event, init=False)
    _failing: bool = attrs.field(default=False, init=False)
    _thread: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)

    def post(self, event: LedgerEvent) -> None:
        if isinstance(event, (Ended, CameLate)):
            self._add_blocks(event.execution, self._cutter.finish(event.execution), event.at)
        for entry in describe(event):
            self._add(entry)

    def output(self, execution: ExecutionId, data: bytes, at: datetime) -> None:
        """`data` follows what was handed over before: nothing twice."""
        self._add_blocks(execution, self._cutter.feed(execution, data), at)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The service. When it is cancelled, what is queued is still written."""
        task_status.started()
        try:
            while True:
                await self._arrived.wait()
                await trio.sleep(GATHER_S)
                await self._flush()
        finally:
            await self._flush()

    def _add_blocks(self, execution: ExecutionId, blocks: Sequence[bytes], at: datetime) -> None:
        for block in blocks:
            self._add(Entry(at, execution.run, execution.machine, block, is_output=True))

    def _add(self, entry: Entry) -> None:
        size = len(entry.text) + ENTRY_BYTES
        if self._queued + size > MAX_QUEUED:
            self._left_out += entry.text.count(b"\n") + 1
            return
        self._queue.append(entry)
        self._queued += size
        self._arrived.set()

    async def _flush(self) -> None:
        entries, left_out = list(self._queue), self._left_out
        self._queue.clear()
        self._queued = self._left_out = 0
        self._arrived = trio.Event()
        if left_out:
            log.warning("The text logs fell behind, %d lines are missing", left_out, extra=fields("textlog.overrun"))
        if entries:
            with trio.move_on_after(FLUSH_S, shield=True):  # they are no longer in the queue
                await trio.to_thread.run_sync(self._write, entries, limiter=self._thread)

    # --- in the thread ---------------------------------------------------------------------------

    def _write(self, entries: Sequence[Entry]) -> None:
        by_job: dict[str, list[bytes]] = {}
        for entry in entries:
            by_job.setdefault(entry.job, []).append(entry.lines())
        try:
            for job, parts in by_job.items():
                self._append(self.logdir / file_name(job), parts)
            self._failing = False
        except OSError as exc:
            if not self._failing:  # once, and not for each line until somebody makes room
                log.error("Cannot write the text logs: %s", exc, extra=fields("textlog.failed", error=str(exc)))
            self._failing = True

    def _append(self, path: Path, parts: Sequence[bytes]) -> None:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        path.touch(mode=0o640)
        if (size := path.stat().st_size) and size + sum(map(len, parts)) > self.max_bytes:
            _rotate(path, self.keep)
            path.touch(mode=0o640)
        with path.open("ab") as file:
            file.writelines(parts)  # not joined: there may be megabytes


def file_name(job: str) -> str:
    """A name for the job's log that is safe whatever the job is called."""
    return f"{as_file_name(job)}.log"


def describe(event: LedgerEvent) -> list[Entry]:
    """The lines that `event` is worth."""
    match event:
        case RunStarted() | SlotPassed() | KillRequested() | RunEnded():
            return _describe_run(event)
        case Retrying() | Started() | Ended() | CameLate():
            texts = _describe_execution(event)
            execution = event.execution
            return [Entry(event.at, execution.run, execution.machine, _escaped(text)) for text in texts]
        case Awaited() | Targeted() | Launched() | Confirmed() | Bound() | HoldSet() | HoldEnded():
            return []
        case _:
            assert_never(event)


def _describe_run(event: RunStarted | SlotPassed | KillRequested | RunEnded) -> list[Entry]:
    at = event.at
    match event:
        case RunStarted():
            return [Entry(at, event.run, _NOBODY, _escaped(f"started by {event.by}"))]
        case SlotPassed():
            instance = f"{event.job}_{event.slot.timestamp():.0f}"
            return [Entry(at, instance, _NOBODY, _escaped(f"did not run: {event.reason.value} {event.text}".rstrip()))]
        case KillRequested():
            machines = event.machines or (_NOBODY,)
            return [Entry(at, event.run, machine, _escaped(f"kill requested by {event.by}")) for machine in machines]
        case RunEnded():
            return [Entry(at, event.run, _NOBODY, _escaped(f"ended: {event.verdict.value} {event.text}".rstrip()))]
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


def shown(block: bytes) -> bytes:
    """Lines of a command's output, with everything escaped that is no text; a tab in a table is no harm."""
    # looking for one byte costs next to nothing, for two as much as all else here
    lines = block.removesuffix(b"\r").replace(b"\r\n", b"\n") if b"\r" in block else block
    if not lines.translate(None, _PLAIN):  # as most output is; that costs a tenth of looking at each character
        return lines
    return escape_lines(lines.decode("utf-8", "backslashreplace")).encode()


def _escaped(text: str) -> bytes:
    """One line, whatever is in it."""
    return "\t".join(map(escape, text.split("\t"))).encode()


def _rotate(path: Path, keep: int) -> None:
    """path -> path.1 -> path.2 and so on; the oldest of `keep` goes. With 0 the file just begins anew.

    It goes first: when one file is renamed over another, ext4 writes it to the disk at once (auto_da_alloc), and in a
    flood that would be all of them, though none is to last.
    """
    files = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, keep + 1))]
    files[-1].unlink(missing_ok=True)
    for younger, older in reversed(list(pairwise(files))):
        if younger.exists():
            younger.rename(older)
