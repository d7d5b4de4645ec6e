"""Where in the state directory what lies. Nothing here opens a database."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

import attrs

from saltpeter.errors import StoreError
from saltpeter.logs import fields

log = logging.getLogger(__name__)

LEDGER_FILE = "ledger.sqlite"
OUTPUT_DIRECTORY = "output"
SESSION_KEY_FILE = "session.key"  # who has it can log in as anybody: a backup must not hold it, and nobody misses it
_LOCK = "store.lock"
_LAST_WORDS = "store.writing.lock"
_DAMAGED = ".damaged-"
_NOTE = ".damage"  # beside a database that somebody has found damaged
_JOURNALS = ("-wal", "-shm")


def _absolute(path: Path) -> Path:
    return path.absolute()


@attrs.frozen
class Partition:
    """The output of a day's runs; `size` in bytes."""

    day: str  # UTC, YYYYMMDD
    path: Path
    size: int


@lru_cache(maxsize=64)  # asked for with each piece of output
def _file_of(statedir: Path, day: str) -> Path:
    return statedir / OUTPUT_DIRECTORY / f"output-{day}.sqlite"


@attrs.frozen
class Places:
    statedir: Path = attrs.field(converter=_absolute)  # who writes has another working directory
    ledger: Path = attrs.field(init=False)

    @ledger.default
    def _ledger(self) -> Path:
        return self.statedir / LEDGER_FILE

    @property
    def lock(self) -> Path:
        return self.statedir / _LOCK

    @property
    def last_words(self) -> Path:
        """The lock of the process that writes, which may outlive its daemon for a moment."""
        return self.statedir / _LAST_WORDS

    def output(self, day: str) -> Path:
        return _file_of(self.statedir, day)

    def partitions(self) -> list[Partition]:
        """Oldest first."""
        found = sorted(self.output("*").parent.glob("output-[0-9]*.sqlite"))
        return [Partition(path.stem.removeprefix("output-"), path, size_of(path)) for path in found]

    def others(self) -> list[Path]:
        """What else lies here and belongs to a backup: the key of the runs' tokens, for one."""
        files = [path for path in sorted(self.statedir.iterdir()) if path.is_file() and path.name != SESSION_KEY_FILE]
        return [path for path in files if not path.name.startswith(LEDGER_FILE) and path.suffix != ".lock"]

    def set_aside(self) -> list[Path]:
        """The damaged files that were replaced, without their journals."""
        found = sorted([*self.statedir.glob(f"*{_DAMAGED}*"), *self.output("*").parent.glob(f"*{_DAMAGED}*")])
        return [path for path in found if not path.name.endswith(_JOURNALS)]

    def openness(self) -> int:
        """The bits of the state directory's mode by which others can see or change what lies in it; 0 for none.

        A group that may pass through it, to the control socket, is meant to.
        """
        return stat.S_IMODE(self.statedir.stat().st_mode) & 0o067

    def free(self) -> int:
        """Bytes of the file system that are free for us."""
        return shutil.disk_usage(self.statedir).free

    @contextmanager
    def occupied(self) -> Iterator[int]:
        """Be the only one who writes here; the directories are made if need be. Waits for what a daemon that died had
        begun to write: the descriptor that this yields is to be held by the process that writes, till its end.

        Raises StoreError when somebody else is here, OSError when it cannot be.
        """
        self.statedir.mkdir(mode=0o700, parents=True, exist_ok=True)  # the mode is for this one only
        self.output("").parent.mkdir(mode=0o700, exist_ok=True)
        with self.lock.open("wb") as lock, self.last_words.open("wb") as last_words:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise StoreError(f"{self.statedir} is in use by another saltpeter") from exc
            try:
                fcntl.flock(last_words, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = "%s: waiting until what a daemon that died had begun to write is written"
                log.warning(text, self.statedir, extra=fields("store.waits", path=str(self.statedir)))
                fcntl.flock(last_words, fcntl.LOCK_EX)
            yield last_words.fileno()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Nothing is forgotten meanwhile; waits for who is just forgetting. Raises OSError."""
        with self._output_locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def forgetting(self) -> Iterator[bool]:
        """May something be forgotten? Not while somebody needs all of it. Raises OSError."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._output_locked(fcntl.LOCK_EX | fcntl.LOCK_NB))
                alone = True
            except BlockingIOError:
                alone = False
            yield alone

    @contextmanager
    def _output_locked(self, how: int) -> Iterator[None]:
        # the directory itself, for it has the right owner whoever comes first
        descriptor = os.open(self.output("").parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def in_use(self) -> bool:
        """Is somebody writing here? Raises OSError where that cannot be said."""
        return _is_locked(self.lock) or _is_locked(self.last_words)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def size_of(path: Path) -> int:
    """Bytes of a database with its journals; 0 for one that is not there."""
    return sum(_size(Path(f"{path}{suffix}")) for suffix in ("", *_JOURNALS))


def size_of_journal(path: Path) -> int:
    return _size(Path(f"{path}-wal"))


def remove(path: Path) -> None:
    """Remove a database that nobody writes any more; one that is gone already is no error."""
    for suffix in ("", *_JOURNALS):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def put_aside(path: Path, at: datetime) -> Path:
    """Rename a damaged database, with the journal that belongs to it; returns its new name."""
    stamp = at.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = Path(f"{path}{_DAMAGED}{stamp}")
    Path(f"{path}-shm").unlink(missing_ok=True)  # an index into the journal, made anew from it
    for suffix in ("-wal", ""):
        if (file := Path(f"{path}{suffix}")).exists():
            file.rename(f"{aside}{suffix}")
    Path(f"{path}{_NOTE}").unlink(missing_ok=True)
    sync(path.parent)
    return aside


def note_damage(path: Path, found: str) -> None:
    """Have whoever starts next put the database aside, however it looks to a short check. Raises OSError."""
    Path(f"{path}{_NOTE}").write_text(found)
    sync(path.parent)


def noted_damage(path: Path) -> str:
    """What was noted of the database; "" for nothing."""
    try:
        return Path(f"{path}{_NOTE}").read_text()
    except FileNotFoundError:
        return ""


def sync(directory: Path) -> None:
    """Make what was made or renamed in `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
