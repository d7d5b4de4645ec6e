"""Writes a family of database files, a group of tasks at a time, and waits for the disk as long as that takes.

It runs in the process of `worker`, and therefore imports little.
"""

from __future__ import annotations

import shutil
import sqlite3
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import attrs

from saltpeter.errors import SaltpeterError, StoreError
from saltpeter.store.checkpoints import Checkpoints
from saltpeter.store.checkup import is_damage
from saltpeter.store.places import note_damage, put_aside, remove, size_of_journal
from saltpeter.store.schema import SMALL_PAGE, connect, pragma

MAX_OPEN = 4  # database files

T = TypeVar("T")
P = TypeVar("P")
Work: TypeAlias = Callable[[sqlite3.Connection], T]
Together: TypeAlias = Callable[[sqlite3.Connection, Sequence[P]], Sequence[T]]  # the result of each piece


class Seal(Protocol):
    """What each transaction ends with."""

    def __call__(self, connection: sqlite3.Connection, *, at: datetime) -> None: ...


@attrs.frozen
class Family:
    """Files of one kind.

    `leave_free` bytes of the file system (but at most a twentieth of it) are left to others who need them more. Of
    `replaceable` files a damaged one is put aside, and a new one begun. New files have pages of `page_bytes`.
    """

    migrations: Sequence[str]
    version: str = ""
    leave_free: int = 0
    replaceable: bool = False
    page_bytes: int = SMALL_PAGE


class Task(NamedTuple):
    """A piece of what `do` can do for many at once, in the database at `path`."""

    path: Path
    do: Together[Any, Any] | None  # None: remove the file
    piece: Any = None
    size: int = 0  # bytes, roughly
    frees: bool = False  # it may take what is left free for others


class Group(NamedTuple):
    """What goes together: a transaction for each file, which `seal` ends."""

    tasks: Sequence[Task]
    at: datetime
    seal: Seal | None = None


class Done(NamedTuple):
    """What became of a task: its result, or the error for which nothing of it was written."""

    result: Any
    error: Exception | None


class Failed(NamedTuple):
    """A file that could not be written."""

    path: Path
    size: int  # bytes that were to be
    why: Exception


class Damaged(NamedTuple):
    """A file that was found to be broken; where it is `kept_as`, None while it stays where it is."""

    path: Path
    found: str
    kept_as: Path | None


class Report(NamedTuple):
    done: Sequence[Done]  # as many as there were tasks
    failed: Failed | None = None
    damaged: Sequence[Damaged] = ()
    complaints: Sequence[str] = ()  # of the text logs


@attrs.define(eq=False)
class Scribe:
    """For one thread; another one runs `checkpoints`."""

    family: Family
    checkpoints: Checkpoints = attrs.field(factory=Checkpoints, init=False)
    _open: dict[Path, sqlite3.Connection] = attrs.field(factory=dict, init=False)  # the latest used is last

    def write(self, group: Group) -> Report:
        """Do all of it: each task all or nothing, and what is done would survive a power cut."""
        jobs = [_Job(task) for task in group.tasks]
        by_path: dict[Path, list[_Job]] = {}
        for job in jobs:
            by_path.setdefault(job.task.path, []).append(job)
        failed, damaged = None, list[Damaged]()
        for path, of_file in by_path.items():
            try:
                self._write_file(path, of_file, group)
            except (sqlite3.Error, OSError, StoreError) as exc:
                failed = Failed(path, _size(of_file), exc)
                self._forget(path)  # closing takes back what was begun; the next group opens it afresh
                for job in of_file:
                    job.error = job.error or exc
                if is_damage(exc):
                    damaged.append(self._deal_with_damage(path, str(exc), group.at))
        return Report([Done(job.result, _told(job.error)) for job in jobs], failed, damaged)

    def close(self) -> None:
        for path in list(self._open):
            self._forget(path)

    def _write_file(self, path: Path, jobs: Sequence[_Job], group: Group) -> None:
        if any(job.task.do is None for job in jobs):  # first, so that nothing is lost that is acknowledged
            self._forget(path)
            with self.checkpoints.alone:
                remove(path)
        pieces = [job for job in jobs if job.task.do is not None]
        if self.family.leave_free and not all(job.task.frees for job in pieces):
            self._make_sure_of_room(path, _size(pieces))
        if pieces:
            connection = self._connection(path)
            _begin(connection, pieces)
            if group.seal is not None:
                group.seal(connection, at=group.at)
            connection.execute("COMMIT")
            self.checkpoints.wrote(path, _size(pieces), connection)

    def _deal_with_damage(self, path: Path, found: str, at: datetime) -> Damaged:
        if self.family.replaceable:
            with self.checkpoints.alone:
                return Damaged(path, found, put_aside(path, at))
        with suppress(OSError):  # then the next start has to find it for itself
            note_damage(path, found)
        return Damaged(path, found, None)

    def _make_sure_of_room(self, path: Path, size: int) -> None:
        if self._room(path) >= 2 * size:  # in the journal, and later in the file
            return
        self._connection(path).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if self._room(path) < 2 * size:
            raise StoreError("the last of the disk is not for output")

    def _room(self, path: Path) -> int:
        """Bytes that may be used when the journal has been copied into its file, and others have their part."""
        disk = shutil.disk_usage(path.parent)
        return disk.free - size_of_journal(path) - min(self.family.leave_free, disk.total // 20)

    def _connection(self, path: Path) -> sqlite3.Connection:
        family = self.family
        connection = self._open.pop(path, None)
        connection = connection or connect(path, family.migrations, family.version, family.page_bytes)
        self._open[path] = connection
        if len(self._open) > MAX_OPEN:
            self._forget(next(iter(self._open)))
        return connection

    def _forget(self, path: Path) -> None:
        if (connection := self._open.pop(path, None)) is not None:
            connection.close()


def each(connection: sqlite3.Connection, works: Sequence[Work[Any]]) -> list[Any]:
    """For tasks whose pieces say themselves what is to be done."""
    return [work(connection) for work in works]


def size(tasks: Iterable[Task]) -> int:
    """Bytes, roughly."""
    return sum(task.size for task in tasks)


def probe(connection: sqlite3.Connection) -> None:
    """Write a page, and change nothing."""
    connection.execute(f"PRAGMA user_version = {pragma(connection, 'user_version')}")


@attrs.define(eq=False)
class _Job:
    task: Task
    result: Any = None
    error: Exception | None = None


def _size(jobs: Sequence[_Job]) -> int:
    return size(job.task for job in jobs)


def _begin(connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
    """Begin a transaction with all of `jobs` that can be done: one task's failure is no other's."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for _, alike in groupby(jobs, key=lambda job: job.task.do):
            _do(connection, list(alike))
    except Exception:  # found once more below, by whose it is: each savepoint costs as much as a small piece of work
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            _attempt(connection, job)


def _attempt(connection: sqlite3.Connection, job: _Job) -> None:
    """Do the task, or nothing of it."""
    connection.execute("SAVEPOINT task")
    try:
        _do(connection, [job])
    except Exception as exc:  # whatever it is, it belongs to the one who submitted it
        job.error = exc
        if not connection.in_transaction or is_damage(exc):
            raise  # a full disk may make SQLite take back the whole group, and damage is everybody's
        connection.execute("ROLLBACK TO task")
    connection.execute("RELEASE task")


def _do(connection: sqlite3.Connection, alike: Sequence[_Job]) -> None:
    """What `alike` want done, which is the same for all of them."""
    do = alike[0].task.do
    assert do is not None  # noqa: S101  who wants a file removed is not among them
    for job, result in zip(alike, do(connection, [job.task.piece for job in alike]), strict=True):
        job.result = result


def _told(error: Exception | None) -> Exception | None:
    """As it can be told in another process: a bug by its traceback, for that stays behind."""
    if error is None or isinstance(error, (sqlite3.Error, OSError, SaltpeterError)):
        return error
    return RuntimeError("".join(traceback.format_exception(error)))
