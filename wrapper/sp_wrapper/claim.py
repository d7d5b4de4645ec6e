"""One run's claim on this machine: what it is, who works on it, and how it ended."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections import namedtuple
from collections.abc import Mapping

from sp_wrapper import __version__, order, state
from sp_wrapper.codes import REFUSED

RESULT_ROOM = 8192  # bytes of disk set aside, so that a full disk cannot swallow the exit code


class Refused(Exception):
    """The machine must not run this: the slot is claimed already, or the job's lock is held."""


class Processes(namedtuple("Processes", "supervisor supervisor_start pid pid_start started version")):
    """Who works on a claim. `*_start` are the kernel's start times, against reuse of a pid; `pid` is the
    command's, 0 when it could not be started; `started` is in seconds since the epoch."""

    __slots__ = ()
    supervisor: int
    supervisor_start: int
    pid: int
    pid_start: int
    started: float
    version: str


class Manner(namedtuple("Manner", "signum grace_s")):
    """The first signal of a kill, and the seconds from there to KILL."""

    __slots__ = ()
    signum: int
    grace_s: float


class Claim:
    """A directory that belongs to one run. `output` is where its spool lies, in the same directory."""

    def __init__(self, home: state.StateDir, run: str) -> None:
        self.home = home
        self.run = run
        self.path = home.file("runs", run)
        self.pending = home.file("pending", run)

    def file(self, name: str) -> str:
        return f"{self.path}/{name}"

    def exists(self) -> bool:
        return os.path.isdir(self.path)

    def is_worked_on(self) -> bool:
        """Does its supervisor live, or does a reporter deliver it right now?"""
        return state.locked(self.path)

    def is_left(self) -> bool:
        """Does nobody work on it? Only asked of what is pending."""
        try:
            return not self.is_worked_on()
        except FileNotFoundError:  # it is being made right now
            return False

    def lock(self) -> int | None:
        return state.lock(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def order(self) -> order.Order | None:
        """The order; None once it was delivered. Raises OrderError for a damaged file."""
        data = state.read(self.file("order"))
        return None if data is None else order.parse(_unpack(data))

    def processes(self) -> Processes | None:
        data = state.read(self.file("processes"))
        if data is None:
            return None
        fields = _unpack(data)
        return Processes(
            supervisor=int(fields["supervisor"]),
            supervisor_start=int(fields["supervisor_start"]),
            pid=int(fields["pid"]),
            pid_start=int(fields["pid_start"]),
            started=float(fields["started"]),
            version=fields["version"],
        )

    def write_processes(self, processes: Processes) -> None:
        state.write(self.file("processes"), _pack({name: str(value) for name, value in processes._asdict().items()}))

    def note_trouble(self, text: str) -> bool:
        """Keep what is in the way of reporting, for whoever asks; "" when nothing is. Answers whether that is new."""
        known = self.trouble()
        if text == known:
            return False
        with contextlib.suppress(OSError):  # a full disk costs what --status could say
            if text:
                state.write(self.file("trouble"), text.encode(errors="replace"))
            else:
                os.unlink(self.file("trouble"))
        return True

    def trouble(self) -> str:
        return (state.read(self.file("trouble")) or b"").decode(errors="replace")

    def manner(self) -> Manner | None:
        """How somebody on the machine wants it ended; None: as its order says."""
        data = state.read(self.file("manner"))
        if data is None:
            return None
        fields = _unpack(data)
        return Manner(int(fields["signum"]), float(fields["grace_s"]))

    def write_manner(self, manner: Manner | None) -> None:
        if manner is not None:
            state.write(self.file("manner"), _pack({name: str(value) for name, value in manner._asdict().items()}))
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.file("manner"))

    def delivered(self) -> None:
        """The daemon has heard everything: keep the claim and its result, remove what was said."""
        for name in os.listdir(self.path):
            if name not in ("result", "processes"):
                os.unlink(self.file(name))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.pending)


def take(home: state.StateDir, wanted: order.Order, environ: Mapping[str, str]) -> tuple[Claim, int]:
    """Claim the run for this process. Answers the claim and the descriptor whose flock says that we live.

    Raises Refused when the run was claimed here before.
    """
    claim = Claim(home, home.run_of(wanted.machine, wanted.instance, wanted.attempt))
    draft = home.file("new", f"{claim.run}.{os.getpid()}.{time.monotonic_ns()}")
    os.mkdir(draft, 0o700)
    fd = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX)  # nobody else knows the draft, so this cannot wait
    marked = False
    try:
        own = {key: value for key, value in environ.items() if key.startswith("SP_")}
        state.write(draft + "/order", _pack(own))
        state.reserve(draft + "/result", RESULT_ROOM)
        marked = _mark_pending(claim)
        os.rename(draft, claim.path)  # fails where the run has its directory: that makes it the claim
    except OSError as exc:
        os.close(fd)
        state.remove(draft)
        if marked:
            os.unlink(claim.pending)
        if not claim.exists():
            raise
        raise Refused(f"{wanted.instance} (attempt {wanted.attempt}) was claimed on this machine before") from exc
    return claim, fd


def _mark_pending(claim: Claim) -> bool:
    """Note that the daemon has yet to hear of it. False when an earlier claim of the run has noted it already."""
    try:
        os.close(os.open(claim.pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True


def take_job_lock(home: state.StateDir, wanted: order.Order) -> int | None:
    """Take the job's lock against overlap, None when overlap is allowed. Raises Refused."""
    if wanted.allow_overlap:
        return None
    path = wanted.lockfile or home.lock_of(wanted.machine, wanted.job)
    fd = state.lock(path, os.O_RDWR | os.O_CREAT)
    if fd is None:
        holder = (state.read(path) or b"").decode(errors="replace").strip()[:200] or "another run"
        raise Refused(f"{wanted.job} is running on this machine: {holder} holds its lock")
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:  # it is written to, with the rights of the wrapper
        os.close(fd)
        raise OSError(errno.EPERM, f"the lock file {path} is no plain file, or has another name")
    os.ftruncate(fd, 0)
    os.pwrite(fd, wanted.instance.encode(errors="surrogateescape"), 0)
    return fd


def refuse(claim: Claim, reason: str) -> None:
    """Record that the machine refused, for whoever asks later; Salt's answer carries the reason to the daemon."""
    finish(claim, {"retcode": REFUSED, "outcome": "refused", "error": reason})
    claim.delivered()


def finish(claim: Claim, result: Mapping[str, object]) -> None:
    """Record the end. Raises OSError."""
    import json  # noqa: PLC0415 - not before the command has ended

    state.write(claim.file("result"), json.dumps({"version": __version__} | dict(result)).encode(), durable=True)


def _pack(fields: Mapping[str, str]) -> bytes:
    """NAME=value, each ended by a zero byte, as in /proc/<pid>/environ: no parser to load, no value to escape."""
    return "".join(f"{key}={value}\0" for key, value in fields.items()).encode(errors="surrogateescape")


def _unpack(data: bytes) -> dict[str, str]:
    entries = data.decode(errors="surrogateescape").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
