"""A text log for each job in `logdir`, for grep and tail: `<ISO time> <job_instance> <machine> <text>`.

A copy for people, made from what has become durable, in the process that writes it. The ledger and the stored output
are the truth, so nothing ever waits for these files.
"""

from __future__ import annotations

import json
import string
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias, Union

import attrs

from saltpeter.domain.filenames import as_file_name
from saltpeter.logs import escape, escape_lines
from saltpeter.store.codec import from_us
from saltpeter.store.facts import Fact
from saltpeter.store.streams import StreamName

MAX_LINE = 8 * 1024  # bytes of output in one line; a longer one goes on in the next
MAX_QUEUED = 16 * 1024 * 1024  # bytes that wait for the disk; past it lines are left out
ENTRY_BYTES = 200  # that what waits takes beside its text
GATHER_S, MUCH = 0.1, MAX_QUEUED // 8  # seconds, and bytes, in which more lines are gathered for one write
BUFFER_BYTES = 128 * 1024  # of lines go into the file at once
_NOBODY = "-"  # stands for the machine where a whole run is meant
_PLAIN = (string.ascii_letters + string.digits + string.punctuation + " \t\n").encode()


class Entry(NamedTuple):
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


class Output(NamedTuple):
    """What a command has written from the byte `begin` of all its output on, nothing twice; durable since `at`."""

    stream: StreamName
    begin: int
    data: bytes
    at: datetime


_News: TypeAlias = Union[Output, Sequence[Fact]]


@attrs.define
class LineCutter:
    """Makes lines of the chunks in which output arrives, however it was cut. Blocks are lines with newlines between
    them, and without one at the end: output may be so much that no line of it can be looked at by itself."""

    _begun: dict[StreamName, tuple[int, bytes]] = attrs.field(factory=dict, init=False)  # what follows it begins there

    def feed(self, stream: StreamName, begin: int, data: bytes) -> list[bytes]:
        """What was begun is a line by itself where something is missing between it and `data`."""
        follows, begun = self._begun.pop(stream, (begin, b""))
        blocks = [begun] if follows != begin else []
        block, newline, rest = (data if blocks else begun + data).rpartition(b"\n")
        if newline:
            blocks.append(block)
        while len(rest) > MAX_LINE:
            blocks.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        if rest:
            self._begun[stream] = begin + len(data), rest
        return blocks

    def finish(self, stream: StreamName) -> list[bytes]:
        """The last line, if it has no end."""
        _, begun = self._begun.pop(stream, (0, b""))
        return [begun] if begun else []


@attrs.define(eq=False)
class TextLogs:
    """Any thread says what is news, and is back at once; one of its own writes that down.

    A file that would grow past `max_bytes` is rotated, and `keep` old ones are kept.
    """

    logdir: Path
    max_bytes: int = 10 * 1024 * 1024
    keep: int = 5
    _cutter: LineCutter = attrs.field(factory=LineCutter, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)  # of the next three
    _queue: deque[_News] = attrs.field(factory=deque, init=False)
    _queued: int = attrs.field(default=0, init=False)  # bytes
    _left_out: int = attrs.field(default=0, init=False)  # lines, since the queue was full
    _arrived: threading.Event = attrs.field(factory=threading.Event, init=False)
    _much: threading.Event = attrs.field(factory=threading.Event, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _complaints: deque[str] = attrs.field(factory=deque, init=False)
    _failing: bool = attrs.field(default=False, init=False)

    def facts(self, facts: Sequence[Fact]) -> None:
        self._add(facts, ENTRY_BYTES * len(facts))

    def output(self, output: Output) -> None:
        self._add(output, len(output.data) + ENTRY_BYTES)

    def complaints(self) -> Sequence[str]:
        """What is wrong with the logs since this was last asked."""
        return [self._complaints.popleft() for _ in range(len(self._complaints))]

    def run(self) -> None:
        """For a thread; ends after `close`, when all is written."""
        while not self._closed:
            self._arrived.wait()
            self._much.wait(GATHER_S)
            self._flush()
        self._flush()  # what came after the last time

    def close(self) -> None:
        """There is no more news."""
        self._closed = True
        self._much.set()
        self._arrived.set()

    def _add(self, news: _News, size: int) -> None:
        with self._lock:
            if self._queued + size > MAX_QUEUED:
                self._left_out += _lines(news.data) if isinstance(news, Output) else len(news)
                return
            self._queue.append(news)
            self._queued += size
            if self._queued >= MUCH:
                self._much.set()
            self._arrived.set()

    # --- in its thread ---------------------------------------------------------------------------

    def _flush(self) -> None:
        with self._lock:
            news, left_out = list(self._queue), self._left_out
            self._queue.clear()
            self._queued = self._left_out = 0
            self._arrived.clear()
            self._much.clear()
        if left_out:
            self._complaints.append(f"they fell behind, {left_out} lines are missing")
        try:
            self._write(news)
            self._failing = False
        except Exception as exc:  # a full disk, or a bug of ours: what comes next may be written
            if not self._failing:  # once, and not for each line until somebody makes room
                self._complaints.append(f"they cannot be written: {exc}")
            self._failing = True

    def _write(self, news: Iterable[_News]) -> None:
        by_job: dict[str, list[Entry]] = {}
        for each in news:
            for entry in self._entries(each):
                by_job.setdefault(entry.job, []).append(entry)
        for job, entries in by_job.items():
            self._append(self.logdir / file_name(job), entries)

    def _entries(self, news: _News) -> Iterator[Entry]:
        if isinstance(news, Output):
            stream, begin, data, at = news
            yield from _of_output(stream, self._cutter.feed(stream, begin, data), at)
            return
        for fact in news:
            if fact.kind in ("ended", "came_late"):
                stream = StreamName(fact.run, str(fact.machine), fact.attempt or 1)
                yield from _of_output(stream, self._cutter.finish(stream), from_us(fact.at_us))
            yield from describe(fact)

    def _append(self, path: Path, entries: Iterable[Entry]) -> None:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        file = _opened(path)
        try:
            size = file.tell()
            for entry in entries:
                lines = entry.lines()  # one after the other: memory that is used again costs nothing
                if size and size + len(lines) > self.max_bytes:
                    file.close()
                    _rotate(path, self.keep)
                    file, size = _opened(path), 0
                size += file.write(lines)
        finally:
            file.close()


def _lines(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n"))


def _opened(path: Path) -> BinaryIO:
    path.touch(mode=0o640)
    return path.open("ab", buffering=BUFFER_BYTES)


def file_name(job: str) -> str:
    """A name for the job's log that is safe whatever the job is called."""
    return f"{as_file_name(job)}.log"


def describe(fact: Fact) -> Iterable[Entry]:
    """The lines that `fact` is worth."""
    at, run, texts = from_us(fact.at_us), fact.run, list[str]()
    machines = [fact.machine if isinstance(fact.machine, str) else _NOBODY]
    match fact.kind:
        case "run_started":
            texts = [f"started by {fact.text}"]
        case "slot_passed":
            run, text = _passed(fact)
            texts = [text]
        case "kill_requested":
            texts = [f"kill requested by {fact.text}"]
            machines = json.loads(fact.more or "{}").get("machines") or machines
        case "run_ended":
            texts = [f"ended: {fact.text} {fact.more or ''}".rstrip()]
        case "retrying":
            texts = [f"trying again (attempt {fact.attempt})"]
        case "started":
            texts = [f"started (PID: {fact.number})"]
        case "ended":
            texts = _end("ended", fact)
        case "came_late":
            texts = _end("reported late", fact)
        case "awaited" | "targeted" | "launching" | "launched" | "confirmed" | "bound" | "hold_set" | "hold_ended":
            pass
        case _:
            raise AssertionError(f"facts of the kind {fact.kind!r} are to be told, or not")
    return [Entry(at, run, machine, _escaped(text)) for machine in machines for text in texts]


def _passed(fact: Fact) -> tuple[str, str]:
    """The first slot as if it were a run, and what became of it and of those up to the last."""
    more = json.loads(fact.more or "{}")
    first, last = (f"{fact.job}_{us // 1_000_000}" for us in (more["first_us"], fact.number or 0))
    others = "" if first == last else f", nor did any up to {last}"
    return first, f"did not run{others}: {more['reason']} {fact.text or ''}".rstrip()


def _end(word: str, fact: Fact) -> list[str]:
    """Read as it stands in the table, see `outcomes`: what that needs is not for this process."""
    outcome = json.loads(fact.text or "{}")
    return [*outcome.get("text", "").splitlines(), f"{word}: {outcome['end']} (exit code: {outcome['code']})"]


def _of_output(stream: StreamName, blocks: Iterable[bytes], at: datetime) -> Iterator[Entry]:
    return (Entry(at, stream.run, stream.machine, block, is_output=True) for block in blocks)


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
