"""The processes below a process, and how to end them all. Reads /proc; loaded before the command starts."""

from __future__ import annotations

import contextlib
import os
from collections import namedtuple
from collections.abc import Callable, Iterable

from sp_wrapper.kernel import signal

DEAD = "ZX"  # a zombie does nothing any more; only its parent can remove it
FORCED_S = 1.0  # how long KILL may take to work, before what is left is called a survivor

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Proc(namedtuple("Proc", "pid parent name state start session cpu_s rss")):
    """A line of /proc/<pid>/stat. `start` is in kernel ticks since boot, `rss` in bytes."""

    __slots__ = ()
    pid: int
    parent: int
    name: str
    state: str
    start: int
    session: int
    cpu_s: float
    rss: int


def parse_stat(text: str) -> Proc:
    """Read /proc/<pid>/stat. The name stands in brackets and may itself hold brackets and spaces."""
    head, _, tail = text.rpartition(")")
    pid, _, name = head.partition(" (")
    rest = tail.split()
    return Proc(
        int(pid),
        int(rest[1]),
        name,
        rest[0],
        int(rest[19]),
        int(rest[3]),
        (int(rest[11]) + int(rest[12])) / _TICKS_PER_S,
        int(rest[21]) * _PAGE,
    )


def look(pid: int) -> Proc | None:
    """One process; None when there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return parse_stat(os.read(fd, 4096).decode(errors="replace"))
    except OSError:  # it ended between the two calls
        return None
    finally:
        os.close(fd)


def everything() -> list[Proc]:
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return [proc for proc in found if proc is not None]


def below(root: int, procs: Iterable[Proc], own_session: int) -> list[Proc]:
    """The living descendants of `root`, but those of `own_session`: a session can be left and never joined, so
    the supervisor's holds the wrapper's own processes and nothing of the command."""
    children: dict[int, list[Proc]] = {}
    for proc in procs:
        children.setdefault(proc.parent, []).append(proc)
    found: list[Proc] = []
    parents = [root]
    while parents:
        next_ones = [proc for proc in children.get(parents.pop(), ()) if proc.session != own_session]
        found += next_ones
        parents += [proc.pid for proc in next_ones]
    return [proc for proc in found if proc.state not in DEAD]


def of_session(leader: int, start: int, procs: Iterable[Proc]) -> list[Proc]:
    """The living processes of the session that `leader`, started at `start`, opened; for a tree whose root is gone."""
    procs = list(procs)
    if any(proc.pid == leader and proc.start != start for proc in procs):
        return []  # the number belongs to another process by now
    return [proc for proc in procs if proc.session == leader and proc.state not in DEAD]


def send(pid: int, signum: int) -> None:
    """Signal a process; one that is gone, or not ours to signal, shows in the next scan or not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


class TreeKill:
    """Ends a tree: a first signal to all, KILL after the grace, both also to what appears meanwhile.

    Knows no clock and no /proc: `scan` answers the living processes, `signal_one` signals one.
    """

    def __init__(
        self,
        scan: Callable[[], list[Proc]],
        signal_one: Callable[[int, int], None],
        first: int,
        force_at: float,
    ) -> None:
        self.force_at = force_at  # in the seconds that `step` is told
        self._scan = scan
        self._signal_one = signal_one
        self._first = first
        self._signalled: dict[tuple[int, int], Proc] = {}
        self._forced: set[tuple[int, int]] = set()
        self._left: list[Proc] = []
        self._empty_scans = 0

    def hurry(self, force_at: float) -> None:
        """Force it earlier, because somebody asked again with less patience."""
        self.force_at = min(self.force_at, force_at)

    def step(self, now: float) -> bool:
        """Signal what has to be signalled now. True when it is over: all gone, or KILL had its time."""
        self._left = self._scan()
        forced = now >= self.force_at or self._first == signal.SIGKILL
        for proc in self._left:
            self._signal(proc, forced)
        # Twice, because a scan can miss what forks while it reads.
        self._empty_scans = 0 if self._left else self._empty_scans + 1
        return self._empty_scans >= 2 or now >= self.force_at + FORCED_S

    def receipt(self) -> dict[str, list[dict[str, object]]]:
        """What was signalled, what of it ended, what survived and in which state."""
        left = {(proc.pid, proc.start): proc for proc in self._left}
        ended = [proc for key, proc in self._signalled.items() if key not in left]
        return {
            "signalled": [_named(proc) for proc in self._signalled.values()],
            "ended": [_named(proc) for proc in ended],
            "survived": [_named(proc) | {"state": proc.state} for proc in left.values()],
        }

    def _signal(self, proc: Proc, forced: bool) -> None:
        key = (proc.pid, proc.start)
        if key not in self._signalled and not forced:
            self._signal_one(proc.pid, self._first)
            if proc.state in "Tt":
                self._signal_one(proc.pid, signal.SIGCONT)  # a stopped process hears nothing else
        if forced and key not in self._forced:
            self._signal_one(proc.pid, signal.SIGKILL)
            self._forced.add(key)
        self._signalled.setdefault(key, proc)


def _named(proc: Proc) -> dict[str, object]:
    return {"pid": proc.pid, "name": proc.name}
