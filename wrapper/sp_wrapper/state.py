"""Where the wrapper keeps what must outlive it: one private directory on the machine.

    runs/<hash>/     a claim: made whole under another name and renamed, so it is never seen half made.
                     An flock on the directory itself says that its supervisor lives.
    pending/<hash>   an empty file for each run that the daemon has not heard out yet
    locks/<hash>     the jobs' locks against overlap

The hash is over the machine as well, because one host may stand for several machines.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping

from sp_wrapper.digests import sha256

DIRECTORIES = ("runs", "pending", "locks", "new")
KEEP_S = 7 * 24 * 3600.0  # a claim refuses a second launch for this long
PRUNE_EVERY_S = 24 * 3600.0


class StateError(Exception):
    """The state directory cannot be trusted or used."""


def state_path(environ: Mapping[str, str], uid: int) -> str:
    if environ.get("SP_STATEDIR"):
        return environ["SP_STATEDIR"]
    if uid == 0:
        return "/var/lib/sp_wrapper"
    home = environ.get("HOME") or "/nonexistent"
    return os.path.join(environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state"), "sp_wrapper")


def digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode(errors="surrogateescape")).hex()


class StateDir:
    """The directory, checked: ours, private, and no link. Below it nobody else can put anything."""

    def __init__(self, path: str) -> None:
        """Make and check the directory. Raises StateError."""
        self.path = os.path.abspath(path)
        try:
            before = os.umask(0o077)  # for the folders above it, should they be missing, too
            try:
                os.makedirs(self.path, mode=0o700, exist_ok=True)
            finally:
                os.umask(before)
            _check(self.path)
            _check_above(self.path)
            for name in DIRECTORIES:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.file(name), 0o700)
        except OSError as exc:
            raise StateError(f"the state directory {self.path} cannot be used: {exc.strerror}") from exc

    def file(self, *names: str) -> str:
        return "/".join((self.path, *names))

    def pending(self) -> list[str]:
        """The runs that the daemon has not heard out yet."""
        return sorted(os.listdir(self.file("pending")))

    def run_of(self, machine: str, instance: str, attempt: int) -> str:
        return digest(machine, instance, str(attempt))

    def lock_of(self, machine: str, job: str) -> str:
        return self.file("locks", digest(machine, job))


def _check(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"the state directory {path} is a link or no directory")
    if found.st_uid != os.geteuid():
        raise StateError(f"the state directory {path} belongs to uid {found.st_uid}, not to {os.geteuid()}")
    if found.st_mode & 0o077:
        raise StateError(f"the state directory {path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})")


def _check_above(path: str) -> None:
    """Nobody else may put another directory in its place: what lies above must be root's or ours, or sticky."""
    mine = os.geteuid()
    above = os.path.dirname(os.path.realpath(path))
    forbidden = 0o022 if mine == 0 else 0o002
    while True:
        found = os.lstat(above)
        if found.st_uid not in (0, mine) or (found.st_mode & forbidden and not found.st_mode & stat.S_ISVTX):
            raise StateError(f"the state directory {path} is not safe: others can change {above}")
        if above == "/":
            return
        above = os.path.dirname(above)


def lock(path: str, flags: int) -> int | None:
    """Open `path` and take its flock without waiting; None when another holds it. Raises OSError."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def locked(path: str) -> bool:
    """Does a living process hold the flock of the directory at `path`?"""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two who only look do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read(path: str) -> bytes | None:
    """The file's bytes; None when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        return file.read()


def write(path: str, data: bytes, *, durable: bool = False) -> None:
    """Put a file there whole or not at all. `<path>.new` may exist already, with room reserved."""
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.truncate()
        file.flush()
        if durable:
            os.fsync(fd)
    os.replace(path + ".new", path)


def reserve(path: str, size: int) -> None:
    """Set `size` bytes of disk aside for a later `write(path, ...)`, which must not fail on a full disk."""
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # not every filesystem can
        os.posix_fallocate(fd, 0, size)
    os.close(fd)


def prune(state: StateDir, now: float) -> None:
    """Remove what nobody needs any more, at most once a day. `now` is in seconds since the epoch."""
    stamp = state.file("pruned")
    with contextlib.suppress(FileNotFoundError):
        if now - os.stat(stamp).st_mtime < PRUNE_EVERY_S:
            return
    os.close(os.open(stamp, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    os.utime(stamp, (now, now))
    pending = set(state.pending())
    for parent in ("runs", "new"):
        for path in _older_than(state.file(parent), now - KEEP_S):
            if os.path.basename(path) not in pending and not locked(path):
                remove(path)


def _older_than(path: str, at: float) -> Iterator[str]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_mtime < at:
                yield entry.path


def remove(path: str) -> None:
    """Remove a directory of plain files."""
    for name in os.listdir(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}/{name}")
    os.rmdir(path)
