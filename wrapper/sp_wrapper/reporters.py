"""The reporter processes of one supervisor: forked from it, replaced when they crash."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterable
from math import inf

from sp_wrapper import channel
from sp_wrapper.detach import close_all_but
from sp_wrapper.journal import Journal
from sp_wrapper.kernel import signal

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing socket would delay the command
    import socket

DELIVERED = 0  # exit codes of a reporter
GAVE_UP = 3  # the daemon was out of reach for the whole reporting time; the next wrapper delivers
CRASHED = 1

MAX_CRASHES = 20
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 30.0
SOUND_S = 60.0  # a reporter that lived this long did not crash from the start


class Reporters:
    """At most one reporter at a time. Times are seconds of the monotonic clock."""

    def __init__(
        self, report: Callable[[channel.Job, socket.socket], int], journal: Journal, keep: tuple[int, ...]
    ) -> None:
        """`report` is what a reporter runs; its answer is the process's exit code. `keep`: descriptors it needs."""
        self.due_at = inf  # when to start the next one
        self._report = report
        self._journal = journal
        self._keep = keep
        self._started_at = 0.0
        self._pid: int | None = None
        self._socket: socket.socket | None = None
        self._crashes = 0
        self._over = False
        self._helpers: set[int] = set()
        self._facts = channel.Facts()
        self._told: channel.Facts | None = None

    def done(self, recorded: bool) -> bool:
        """Has the end been reported, or been left to a later wrapper?"""
        return self._over and recorded

    def start(self, job: channel.Job, now: float) -> None:
        """Start a reporter; where the machine has no room for one now, later."""
        import socket  # noqa: PLC0415 - the command has been started, now it may cost

        self.due_at, self._started_at = inf, now
        try:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            self.due_at = now + MAX_DELAY_S
            return
        with its:
            ours.setblocking(False)
            self._socket, self._told = ours, None
            try:
                self._pid = _fork(lambda: self._report(job, its), (its.fileno(), *self._keep), self._journal)
            except OSError:
                self._hang_up()
                self.due_at = now + MAX_DELAY_S

    def help(self, work: Callable[[], object]) -> None:
        """Run `work` in a process of its own, for which nobody waits; not at all where there is no room for it."""
        with contextlib.suppress(OSError):
            self._helpers.add(_fork(work, self._keep, self._journal))

    def ended(self, pid: int, status: int, now: float) -> bool:
        """A child ended. True when it was one of ours."""
        if pid in self._helpers:
            self._helpers.discard(pid)
            return True
        if pid != self._pid:
            return False
        self._hang_up()
        self._pid = None
        if now - self._started_at > SOUND_S:
            self._crashes = 0
        if os.waitstatus_to_exitcode(status) in (DELIVERED, GAVE_UP) or self._crashes >= MAX_CRASHES:
            self._over = True
        else:
            self.due_at = now + min(MAX_DELAY_S, FIRST_DELAY_S * 2**self._crashes)
            self._crashes += 1
        return True

    def step(self, job: channel.Job, now: float) -> None:
        """Start the next one when it is due."""
        if self.due_at <= now:
            self.start(job, now)

    def interests(self) -> Iterable[tuple[int, int]]:
        """What to poll for."""
        if self._socket is not None:
            yield self._socket.fileno(), select.POLLIN | (select.POLLOUT if self._told != self._facts else 0)

    def tell(self, facts: channel.Facts) -> None:
        """Hand over the newest facts. A reporter that does not listen gets newer ones later, never a queue."""
        if facts.recorded and not self._facts.recorded and self._pid is None:
            self._over, self._crashes, self.due_at = False, 0, 0.0  # the end is worth starting over for
        self._facts = facts
        if self._socket is not None and self._told != facts:
            with contextlib.suppress(OSError):
                self._socket.send(facts.encode())
                self._told = facts

    def requests(self) -> Iterable[channel.Request]:
        """What the reporter has asked for since the last call."""
        while self._socket is not None:
            try:
                data = self._socket.recv(channel.MAX_REQUEST)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._hang_up()
                return
            yield channel.decode_request(data)

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _fork(work: Callable[[], object], keep: Iterable[int], journal: Journal) -> int:
    """Run `work` in a new process, whose exit code is the number that it returns."""
    pid = os.fork()
    if pid:
        return pid
    code = CRASHED
    try:
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the supervisor obeys them, and outlives us
            signal.signal(signum, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_all_but(keep)
        answer = work()
        code = answer if isinstance(answer, int) else DELIVERED
    except BaseException:  # the last boundary of a process: say it and end
        journal.note_exception()
    finally:
        os._exit(code)
