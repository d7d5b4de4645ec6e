"""conf.d as it lies on disk: read it, notice its changes, and hand over what is in force."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, Union

import attrs
import trio
import watchfiles
from exceptiongroup import BaseExceptionGroup, catch

from saltpeter.domain.config import (
    Assembly,
    Document,
    Host,
    assemble,
    changed_for_restart,
    notes,
    parse_file,
    unreadable,
)
from saltpeter.domain.document import SUFFIXES
from saltpeter.domain.job import Config
from saltpeter.domain.yamltext import LONGEST
from saltpeter.errors import ConfigError
from saltpeter.logs import fields

LOOK_EVERY_S = 3.0  # for what file events do not tell: network file systems, a directory that was replaced
SETTLE_S = 0.05  # so that one save is one reload
STEP_MS = 100  # watchfiles wakes up so often to ask whether to go on: every 10 ms took as much as all else while idle
AFTER_UNKNOWN_S = 1.0  # such a file may change all the time

log = logging.getLogger(__name__)


@attrs.frozen
class NotRead:
    """Why a file could not be read."""

    problem: str


Content: TypeAlias = Union[str, NotRead]


def read_directory(path: str) -> dict[str, Content]:
    """The texts of the YAML files in `path`, by their paths. Hidden files are none. Raises ConfigError."""
    try:
        files = sorted(file for file in Path(path).iterdir() if _is_wanted(file.name))
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    contents = {str(file): _content(file) for file in files}
    return {name: content for name, content in contents.items() if content is not None}


def _is_wanted(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")


def _content(path: Path) -> Content | None:
    """A file's text; None when it is gone already."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return NotRead("is not a file")
            data = file.read(4 * LONGEST + 1)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        return NotRead(f"is not UTF-8 text: byte {exc.start}")
    except OSError as exc:
        return None if isinstance(exc, FileNotFoundError) and not path.is_symlink() else NotRead(str(exc.strerror))


def _without_waiting(path: str, flags: int) -> int:
    """Open what may be a FIFO that somebody left there."""
    return os.open(path, flags | os.O_NONBLOCK)


@attrs.define
class Directory:
    """A directory of jobs. Files that have not changed are not parsed again."""

    path: str
    host: Host
    now: Callable[[], datetime]
    _known: dict[str, tuple[Content, Document]] = attrs.field(factory=dict, init=False)

    def load(self, before: Assembly | None = None) -> Assembly:
        """Read it all. Returns `before` itself when nothing has changed since. Blocks. Raises ConfigError."""
        contents = read_directory(self.path)
        self._known = {path: (content, self._document(path, content)) for path, content in contents.items()}
        documents = tuple(document for _, document in self._known.values())
        if before is not None and [*map(id, documents)] == [*map(id, before.sources)]:
            return before
        return assemble(documents, before, self.host, self.now())

    def _document(self, path: str, content: Content) -> Document:
        known = self._known.get(path)
        if known is not None and known[0] == content:
            return known[1]
        return unreadable(path, content.problem) if isinstance(content, NotRead) else parse_file(path, content)


def check(path: str, host: Host, now: datetime) -> Config:
    """Read `path` once; the problems tell also where jobs mean something else than they did. Raises ConfigError."""
    config = Directory(path, host, lambda: now).load().config
    return attrs.evolve(config, problems=(*config.problems, *notes(config)))


def _channel() -> tuple[trio.MemorySendChannel[None], trio.MemoryReceiveChannel[None]]:
    return trio.open_memory_channel(1)


@attrs.define
class Reloader:
    """Keeps what is in force in step with the directory. `assembly` is what `apply` was given last."""

    directory: Directory
    assembly: Assembly
    apply: Callable[[Config], None]
    look_every_s: float = LOOK_EVERY_S
    _wakes: tuple[trio.MemorySendChannel[None], trio.MemoryReceiveChannel[None]] = attrs.field(
        factory=_channel, init=False
    )

    _done: trio.Event = attrs.field(factory=trio.Event, init=False)  # with the next reload that begins

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reload when a file changes, and when `reread` was called. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_notice_changes, self.directory.path, self.look_every_s, self.reread)
            task_status.started()
            async for _ in self._wakes[1]:
                await trio.sleep(SETTLE_S)
                done, self._done = self._done, trio.Event()
                await self.reload()
                done.set()

    def reread(self) -> None:
        """Have the directory read again, soon; returns at once."""
        with contextlib.suppress(trio.WouldBlock):  # then it is going to be
            self._wakes[0].send_nowait(None)

    async def reread_to_the_end(self) -> None:
        """Have the directory read again; return once that has been done, or has failed."""
        done = self._done
        self.reread()
        await done.wait()

    async def reload(self) -> None:
        """Read the directory again. Whatever goes wrong, the old configuration stays in force."""
        try:
            new = await trio.to_thread.run_sync(self.directory.load, self.assembly)
            if new is not self.assembly:
                self.apply(new.config)
                report(new.config, self.assembly.config)
                self.assembly = new
        except ConfigError as exc:
            log.error(
                "%s: the last configuration stays in force", exc, extra=fields("config.rejected", problem=str(exc))
            )
        except Exception:
            log.exception("Reload failed: the last configuration stays in force", extra=fields("config.failed"))


def report(config: Config, before: Config | None = None) -> None:
    """Log that `config` is in force, and what is new about it."""
    known = set(before.problems) if before else set()
    for problem in config.problems:
        if problem not in known:
            facts = attrs.asdict(problem, filter=attrs.filters.exclude("text", "fatal"))
            log.log(
                logging.ERROR if problem.fatal else logging.WARNING,
                "%s",
                problem,
                extra=fields("config.rejected" if problem.fatal else "config.doubted", **facts, problem=problem.text),
            )
    log.info("Configuration loaded: %d jobs", len(config.jobs), extra=fields("config.loaded", jobs=len(config.jobs)))
    keys = changed_for_restart(before.settings, config.settings) if before else ()
    if keys:
        text = "Takes effect at the next start: %s"
        log.warning(text, ", ".join(keys), extra=fields("config.restart_needed", keys=list(keys)))


async def _notice_changes(path: str, look_every_s: float, wake: Callable[[], None]) -> None:
    """Call `wake` whenever anything in `path` may have changed: by file events, and by looking."""
    seen: object = None
    while True:
        root = await trio.to_thread.run_sync(_identity, path)
        async with trio.open_nursery() as nursery:
            if root is not None:
                nursery.start_soon(_watch_events, path, wake)
            while root == await trio.to_thread.run_sync(_identity, path):
                looks = await trio.to_thread.run_sync(_fingerprint, path)
                if looks != seen:
                    seen = looks
                    wake()
                await trio.sleep(look_every_s)
            nursery.cancel_scope.cancel()  # the events are of a directory that is gone


async def _watch_events(path: str, wake: Callable[[], None]) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_set_when_cancelled, stop)
        try:
            while not stop.is_set():
                await _wake_by_events(path, wake, stop)
        except OSError as exc:  # no inotify, no watches left, gone already: looking must do
            log.debug("No file events for %s: %s", path, exc)
        nursery.cancel_scope.cancel()


async def _wake_by_events(path: str, wake: Callable[[], None], stop: trio.Event) -> None:
    """Until `stop` is set, or an event cannot be told. Raises OSError."""
    unknown: list[BaseExceptionGroup[RuntimeError]] = []
    with catch({RuntimeError: unknown.append}):
        async for _ in watchfiles.awatch(path, watch_filter=None, stop_event=stop, step=STEP_MS, debounce=200):
            wake()
    if unknown:  # watchfiles tells nothing of a file whose name is not UTF-8, and goes no further
        log.debug("An event in %s is unknown: %s", path, unknown[0].exceptions[0])
        wake()
        await trio.sleep(AFTER_UNKNOWN_S)


async def _set_when_cancelled(stop: trio.Event) -> None:
    """watchfiles waits in a thread that a cancellation does not reach, for seconds; this event does."""
    try:
        await trio.sleep_forever()
    finally:
        stop.set()


def _identity(path: str) -> tuple[int, int] | None:
    """Which directory is called `path` now; None while there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _fingerprint(path: str) -> dict[str, tuple[int, ...] | None]:
    """What changes when a file does, without reading it."""
    try:
        return {file.name: _print(file) for file in Path(path).iterdir() if _is_wanted(file.name)}
    except OSError:
        return {}


def _print(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
