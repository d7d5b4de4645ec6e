"""The small process that owns the command: starts it, reads it, ends it, records its end.

It knows no network and loads nothing for it. The reporter is a fork of it that may crash and be replaced.
All waiting happens in one place (`run`); what is due when is in the objects that it asks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from collections.abc import Callable, Mapping
from math import inf

from sp_wrapper import __version__, channel, claim, spool, tree
from sp_wrapper.child import StartError, start
from sp_wrapper.codes import ERROR, KILLED, TIMED_OUT
from sp_wrapper.kernel import adopt_orphans, signal
from sp_wrapper.order import Order
from sp_wrapper.reporters import Reporters
from sp_wrapper.timer import Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sp_wrapper.mask import Mask

READ_SIZE = 256 * 1024
DRAIN_S = 0.5  # how long a background child that holds the pipe may delay the end
KILL_STEP_S = 0.05
RETRY_S = 1.0  # between two tries to write to a full disk

TERMINATED_TEXT = "[Job terminated by user request]"


class Supervisor:
    """One command from its start to the end of its reporting. Times are seconds of the monotonic clock."""

    def __init__(
        self,
        own: claim.Claim,
        order: Order,
        environ: Mapping[str, str],
        job_lock: int | None,
        reporters: Reporters,
    ) -> None:
        self.claim = own
        self.order = order
        self.environ = environ
        self.secrets_due_at = inf  # by when they must have come, while the command waits for them
        self.mask: Mask | None = None  # hides the secrets in the output
        self.spool = spool.SpoolWriter(own.path, order.output_limit)
        self.timeout = Timer(order.timeout_s)
        self.job = channel.Job(own, order, os.getpid(), 0, time.time())
        self.reporters = reporters
        self.asked_to_end = False
        self.wake = -1  # readable on every signal
        self.kill: tree.TreeKill | None = None
        self.outcome = "exited"
        self.status: int | None = None  # as os.waitpid gives it; None while the command runs
        self.ended_at = inf
        self.drain_until = inf
        self.user_s = self.system_s = 0.0
        self.max_rss = 0
        self.output: int | None = None
        self.result: dict[str, object] | None = None
        self.recorded = False
        self.job_lock = job_lock
        self.retry_at = inf

    def start(self, now: Callable[[], float] = time.monotonic) -> None:
        """Start the command, then the first reporter; where the command needs secrets, the reporter gets them first."""
        adopt_orphans()
        self.wake = _catch_signals(self._ask_to_end)
        if self.order.secrets:
            self._wait_for_secrets(now())
        else:
            self._start_command(self.environ, now())
        self.reporters.start(self.job, now())

    def run(self, now: Callable[[], float] = time.monotonic) -> None:
        """Return when the command's end has been reported, or left to be reported later."""
        while not self.reporters.done(self.recorded):
            self._wait(self._due() - now())
            self._reap()
            self._read()
            self._obey()
            self._step(now())
            self.reporters.tell(self._facts())
            self.reporters.step(self.job, now())

    def _facts(self) -> channel.Facts:
        job = self.job
        return channel.Facts(
            self.spool.stored, self.timeout.paused, self.recorded, job.waiting, job.pid, job.started if job.pid else 0.0
        )

    # --- the command ---------------------------------------------------------------------------------

    def _wait_for_secrets(self, now: float) -> None:
        self.job = self.job._replace(waiting=True)
        self.secrets_due_at = now + self.order.secrets_within_s
        self._note_processes()

    def _take_secrets(self, secrets: channel.Secrets, now: float) -> None:
        """Start the command with them. They are kept nowhere here, and whoever comes later asks in vain."""
        if not self.job.waiting:
            return
        self.job = self.job._replace(waiting=False)
        missing = [name for name in self.order.secrets if name not in secrets.env]
        if secrets.error or missing:
            self._end(_not_started(secrets.error or f"the daemon has no value for {', '.join(missing)}"))
        else:
            values = {name: secrets.env[name] for name in self.order.secrets}
            if self.order.mask_secrets:
                from sp_wrapper.mask import Mask  # noqa: PLC0415 - of use to few commands

                self.mask = Mask(values.values())
            self._start_command({**self.environ, **values}, now)

    def _start_command(self, environ: Mapping[str, str], now: float) -> None:
        try:
            pid, self.output = start(self.order, environ)
        except (StartError, OSError) as exc:
            self._end({"retcode": ERROR, "outcome": "error", "error": str(exc)})
        else:
            os.set_blocking(self.output, False)
            self.job = self.job._replace(pid=pid, started=time.time())
            self.timeout.start(now)
        os.chdir("/")
        self._note_processes()

    def _note_processes(self) -> None:
        me, command = tree.look(os.getpid()), tree.look(self.job.pid)
        with contextlib.suppress(OSError):  # a full disk only costs what --status and --kill could say
            self.claim.write_processes(
                claim.Processes(
                    os.getpid(),
                    me.start if me else 0,
                    self.job.pid,
                    command.start if command else 0,
                    self.job.started,
                    __version__,
                )
            )

    def _reap(self) -> None:
        """Take leave of every child that ended: the command, reporters, and orphans that came to us."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.reporters.ended(pid, status, time.monotonic()):
                continue
            self.user_s += usage.ru_utime
            self.system_s += usage.ru_stime
            self.max_rss = max(self.max_rss, usage.ru_maxrss * 1024)
            if pid == self.job.pid:
                self.status, self.ended_at = status, time.time()

    def _read(self) -> None:
        """Take what is in the pipe now."""
        if self.output is None:
            return
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.output, READ_SIZE)
            self.spool.write(data if self.mask is None else self.mask.feed(data))
            if not data:
                self._close_output()

    def _close_output(self) -> None:
        if self.output is not None:
            os.close(self.output)
            self.output = None

    # --- what is asked of it -------------------------------------------------------------------------

    def _ask_to_end(self) -> None:
        self.asked_to_end = True

    def _obey(self) -> None:
        if self.asked_to_end:
            self.asked_to_end = False
            self._kill("killed", *self._manner())
        for request in self.reporters.requests():
            match request:
                case channel.Kill(signum, grace_s):
                    self._kill("killed", signum, grace_s)
                case channel.Signal(signum):
                    self._signal(signum)
                case channel.Acked(offset):
                    self.spool.acknowledge(offset)
                case channel.Secrets():
                    self._take_secrets(request, time.monotonic())

    def _manner(self) -> tuple[int, float]:
        """How whoever sent the signal wants the end: as they have written down, or as the order says."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            if (manner := self.claim.manner()) is not None:
                return manner.signum, manner.grace_s
        return self.order.kill_signal, self.order.grace_s

    def _kill(self, outcome: str, signum: int, grace_s: float) -> None:
        """End the tree, unless the command has ended by itself. Asked again: whichever forces earlier holds."""
        force_at = time.monotonic() + grace_s
        if self.kill is not None:
            self.kill.hurry(force_at)
        elif self.result is None and self.status is None:
            self.outcome = outcome
            self.job = self.job._replace(waiting=False)
            self.kill = tree.TreeKill(self._tree, tree.send, signum, force_at)

    def _signal(self, signum: int) -> None:
        if self.result is not None or self.job.waiting:
            return
        for proc in self._tree():
            tree.send(proc.pid, signum)
        if signum == signal.SIGSTOP:
            self.timeout.pause(time.monotonic())
        if signum == signal.SIGCONT:
            self.timeout.resume(time.monotonic())

    def _tree(self) -> list[tree.Proc]:
        return tree.below(os.getpid(), tree.everything(), os.getsid(0))

    # --- the end -------------------------------------------------------------------------------------

    def _step(self, now: float) -> None:
        """Do what is due."""
        if self.spool.waiting and self.retry_at <= now:
            self.spool.flush()
        if self.result is None:
            self._step_command(now)
        if self.result is not None and not self.recorded:
            self._record()
        if not self._unwritten():
            self.retry_at = inf
        elif self.retry_at <= now or self.retry_at == inf:
            self.retry_at = now + RETRY_S

    def _step_command(self, now: float) -> None:
        if self.job.waiting and self.secrets_due_at <= now:
            self.job = self.job._replace(waiting=False)
            self._end(_not_started(f"its secrets did not arrive within {self.order.secrets_within_s:g} seconds"))
            return
        if self.status is None and self.timeout.due(now):
            self._kill("timeout", self.order.kill_signal, self.order.grace_s)
        ended = self.status is not None if self.kill is None else self.kill.step(now)
        if ended:
            self.drain_until = min(self.drain_until, now + DRAIN_S)
        if self.drain_until <= now or (self.drain_until < inf and self.output is None):
            self._end(self._how_it_ended())

    def _how_it_ended(self) -> dict[str, object]:
        receipt = {} if self.kill is None else {"receipt": self.kill.receipt()}
        code = {"killed": KILLED, "timeout": TIMED_OUT}.get(self.outcome)
        if code is None:
            code = 0 if self.status is None else os.waitstatus_to_exitcode(self.status)
            code = 128 - code if code < 0 else code
        return {"retcode": code, "outcome": self.outcome} | receipt

    def _end(self, how: dict[str, object]) -> None:
        """Nothing more is read; what is left is to record it."""
        if self.mask is not None:
            self.spool.write(self.mask.end())
        self._add_text()
        self.spool.close()
        self._close_output()
        usage = {"user_s": self.user_s, "system_s": self.system_s, "max_rss": self.max_rss}
        self.result = how | {
            "length": self.spool.length,
            "started": self.job.started,
            "ended": self.ended_at if self.ended_at < inf else time.time(),
            "rusage": usage,
        }
        if self.job_lock is not None:
            fcntl.flock(self.job_lock, fcntl.LOCK_UN)
            os.close(self.job_lock)
            self.job_lock = None

    def _add_text(self) -> None:
        """Say in the output why it ends here, on a line of its own."""
        texts = {
            "killed": TERMINATED_TEXT,
            "timeout": f"[Job exceeded timeout of {self.order.timeout_s:g} seconds]",
        }
        if self.outcome in texts:
            newline = "" if self.spool.last in (b"", b"\n") else "\n"
            self.spool.write(f"{newline}{texts[self.outcome]}\n".encode())

    def _record(self) -> None:
        assert self.result is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(OSError):  # the disk is full beyond what was set aside: again in a second
            claim.finish(self.claim, self.result)
            self.recorded = True

    def _unwritten(self) -> bool:
        return self.spool.waiting or (self.result is not None and not self.recorded)

    # --- waiting -------------------------------------------------------------------------------------

    def _due(self) -> float:
        """When to look again even if nothing happens."""
        step = time.monotonic() + KILL_STEP_S if self.kill is not None and self.result is None else inf
        timeout = self.timeout.due_at if self.result is None and self.kill is None else inf
        drain = self.drain_until if self.result is None else inf
        secrets = self.secrets_due_at if self.job.waiting else inf
        return min(step, timeout, drain, secrets, self.retry_at, self.reporters.due_at)

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        if self.output is not None:
            poll.register(self.output, select.POLLIN)
        for fd, events in self.reporters.interests():
            poll.register(fd, events)
        poll.poll(None if seconds == inf else max(0, seconds) * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)


def _not_started(why: str) -> dict[str, object]:
    return {"retcode": ERROR, "outcome": "error", "error": f"the command was not started: {why}"}


def _catch_signals(kill: Callable[[], None]) -> int:
    """Answers a descriptor that becomes readable on every signal. TERM and INT mean: kill, as a user would."""
    wake, wake_end = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: kill())
    signal.signal(signal.SIGINT, lambda *_: kill())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return wake
