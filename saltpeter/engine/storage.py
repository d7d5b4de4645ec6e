"""What survives, as the engine sees it; `saltpeter.store` keeps it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import attrs

from saltpeter.domain.events import ExecutionId, Launched, LedgerEvent, Reason
from saltpeter.domain.job import Hold
from saltpeter.domain.outcome import End
from saltpeter.domain.state import ExecutionState, RunState
from saltpeter.domain.verdict import Verdict


@attrs.frozen
class Piece:
    """A stretch of an execution's output as people see it.

    `index` numbers the pieces of one execution from 0. `system` is True for what saltpeter added.
    """

    index: int
    data: bytes
    system: bool = False


@attrs.frozen
class Passed:
    """A stretch of a job's slots that did not run, all for one reason; `at` is when that was decided.

    `slots` counts those that are known one by one; after a long gap there may be more between `first` and `last`.
    """

    job: str
    first: datetime
    last: datetime
    slots: int
    reason: Reason
    text: str
    at: datetime


@attrs.frozen
class LogLine:
    """An event of the wrapper itself."""

    at: datetime
    level: str
    text: str


@attrs.frozen
class Downtime:
    """No daemon was there; `since` is None for all the time before the first that is known."""

    since: datetime | None
    until: datetime


@attrs.frozen(kw_only=True)
class Answer:
    """What is known of a job's slot at an instant, or of the nearest one to it.

    A run by hand counts as a slot at its start. At most one of `run` and `passed` is given. `down` is the time
    without a daemon that the instant, or else the slot, fell into.
    """

    slot: datetime | None = None  # None: no slot is known
    run: RunState | None = None
    passed: Passed | None = None
    down: Downtime | None = None


@attrs.frozen(kw_only=True)
class Writing:
    """How it goes to make things durable. The seconds are those of the latest commits, 0 before the first."""

    failing_since: datetime | None = None  # None: it works
    why: str = ""  # it fails
    waiting: int = 0  # pieces of work that are not durable yet
    commits: int = 0
    median_s: float = 0.0
    p99_s: float = 0.0
    longest_s: float = 0.0


@attrs.frozen(kw_only=True)
class StoreHealth:
    ledger: Writing
    output: Writing
    ledger_bytes: int
    output_bytes: int
    free_bytes: int  # of the file system
    set_aside: tuple[str, ...]  # files that were damaged, and replaced

    @property
    def ok(self) -> bool:
        return self.ledger.failing_since is None and self.output.failing_since is None


@attrs.frozen
class Tally:
    """How many machines a run has, and on how many of them it failed; those under maintenance did not."""

    machines: int = 0
    failed: int = 0


@attrs.frozen
class Stretch:
    """When an execution began and ended, as far as it has, and with which code."""

    job: str
    execution: ExecutionId
    began_at: datetime | None
    ended_at: datetime | None
    code: int | None


@attrs.frozen
class Part:
    """How a run ended on one machine; `end` is None while it has not."""

    end: End | None
    code: int | None


@attrs.frozen
class Matrix:
    """Of each machine, how runs ended there, by run. `total` counts the machines, with those that are not told of."""

    parts: Mapping[str, Mapping[str, Part]]
    total: int


@attrs.frozen
class Alike:
    """Machines that wrote the same in a run, `length` bytes each.

    `line` counts from 1 and is the first that differs from what most machines wrote, `text` its beginning; 0 where that
    cannot be told.
    """

    machines: tuple[str, ...]
    length: int
    line: int
    text: str


@attrs.frozen
class Bar:
    """Runs of a job that began close to each other: from when to when, how many, and how many of them went wrong.

    `run` is the newest that went wrong, or else the newest. `ended_at` is None while any of them lives.
    """

    job: str
    began_at: datetime
    ended_at: datetime | None
    runs: int
    failed: int
    run: str
    verdict: Verdict | None  # of `run`


@attrs.frozen
class Active:
    """What a job has in a span of time; `began_at` is the first start of a run that it holds, if any."""

    began_at: datetime | None = None
    failed: bool = False
    passed: bool = False


@attrs.frozen
class Bars:
    """`complete` is False where there was more than may be told at once."""

    bars: Sequence[Bar]
    passed: Sequence[Passed]
    complete: bool


@attrs.frozen
class Done:
    """An execution that has ended."""

    job: str
    execution: ExecutionId
    began_at: datetime | None
    ended_at: datetime
    end: End
    code: int


@attrs.frozen
class MachineRecord:
    """How a machine fares. `failures` counts those in a row; `silent_since` is None while it answers."""

    machine: str
    ended_at: datetime
    last: Done | None
    failures: int
    failed: Done | None  # the latest that failed, if it is remembered
    silent_since: datetime | None


class Store(Protocol):
    """Every method that writes returns when its fact would survive the daemon's death.

    One that is cancelled has written nothing, and will not: where it is too late for that, it returns all the same.
    """

    async def commit(self, *events: LedgerEvent) -> None:
        """Write all of `events` or none, also for one who is cancelled meanwhile.

        Raises SlotTaken for a second run of a (job, slot), RunTaken for a run id that exists already, StoreError when
        it cannot write, or cannot begin within a minute.
        """

    async def append(
        self, execution: ExecutionId, offset: int, *data: bytes, cut: int = 0, limit: int | None = None
    ) -> int:
        """Add `data`, the command's bytes from `offset` on, in any portions; what is there already is left out.

        Returns the durable length. A gap before `offset` is an error of the caller, unless `cut` counts
        exactly its bytes: then the cut is marked in the output. Of output that begins with this, or with a note or a
        log, only the first and the last half of `limit` bytes are kept, the cut marked; None keeps all.
        """

    async def note(self, execution: ExecutionId, text: str, *, limit: int | None = None) -> None:
        """Add a line of saltpeter's own to the output; it does not count in offsets."""

    async def log(
        self, execution: ExecutionId, at: datetime, level: str, text: str, *, limit: int | None = None
    ) -> None:
        """Keep an event of the wrapper, beside the output."""

    async def length(self, execution: ExecutionId) -> int:
        """How many bytes of the command's output are durable; 0 for one that is unknown."""

    async def pieces(self, execution: ExecutionId, first: int, limit: int = 256) -> Sequence[Piece]:
        """Output pieces from index `first` on, oldest first, at most `limit`."""

    async def unfinished(self) -> Sequence[RunState]:
        """The runs that had not ended when the daemon last stopped, with their executions."""

    async def last_runs(self) -> Sequence[RunState]:
        """The newest ended run of every job, with its executions."""

    async def holds(self) -> Sequence[Hold]:
        """The maintenance that was set by hand and not ended, whether its time has passed or not."""

    async def last_slots(self) -> dict[str, datetime]:
        """Of each job the newest slot that has an answer (it ran, or was passed over), or from when on its slots
        count, where that is later."""

    async def waiting(self) -> Mapping[str, datetime]:
        """Of each job the newest slot that waited for its turn, if nothing else is known of that slot."""


class History(Protocol):
    """What people may ask of the past. None of it waits for what is being written."""

    async def run(self, run: str) -> RunState | None:
        """The run of that id, with the latest attempt of each machine."""

    async def runs(
        self,
        job: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        failed: bool | None = None,
        *,
        among: Collection[str] | None = None,
    ) -> Sequence[RunState]:
        """Runs that started in [since, until), newest first, of `job` or of any; without executions and kills.

        `failed`: only those that ended without success, or only those that succeeded. `among`, here and below: only
        of these jobs.
        """

    async def tallies(self, runs: Sequence[str]) -> Mapping[str, Tally]:
        """Of each of `runs` that has machines, how many, and on how many it failed."""

    async def stretches(
        self, since: datetime, until: datetime, limit: int, among: Collection[str] | None = None
    ) -> Sequence[Stretch]:
        """Every execution of the runs that started in [since, until), oldest first, at most `limit`."""

    async def latest(self, jobs: Sequence[str], count: int) -> Mapping[str, Sequence[RunState]]:
        """The newest `count` runs of each job that has run, newest first, without executions."""

    async def matrix(self, runs: Sequence[str], machines: int) -> Matrix:
        """How `runs` ended on at most `machines`, those first that failed most often."""

    async def alike(self, executions: Collection[ExecutionId]) -> Sequence[Alike]:
        """Those of `executions`, all of one run, that wrote anything, by what they wrote; the largest group first."""

    async def active(self, since: datetime, until: datetime) -> Mapping[str, Active]:
        """The jobs that have anything in [since, until)."""

    async def bars(self, jobs: Sequence[str], since: datetime, until: datetime, grain: timedelta) -> Bars:
        """The runs of `jobs` that fall into [since, until), and the slots that did not run; oldest first, job by job.

        Runs of a job that began in the same `grain` are one bar.
        """

    async def machines(
        self, since: datetime | None = None, among: Collection[str] | None = None
    ) -> Sequence[MachineRecord]:
        """The machines on which an execution has ended, since `since` or ever, by name.

        With `among` they are told of as far as is seen at a glance: in the newest run of each of these jobs, and in
        what ended last on each machine.
        """

    async def done_on(self, machine: str, among: Collection[str] | None = None) -> Sequence[Done]:
        """The latest executions that ended on the machine, newest first; `among` is as for `machines`."""

    async def attempts(self, run: str) -> Sequence[ExecutionState]:
        """Every attempt on every machine of the run, earliest first."""

    async def launches(self, run: str) -> Sequence[Launched]:
        """The run's launches, oldest first, each with the machines that it was the latest for."""

    async def passed(self, job: str, limit: int = 100) -> Sequence[Passed]:
        """The job's newest slots that did not run, newest first."""

    async def logs(self, execution: ExecutionId) -> Sequence[LogLine]:
        """The wrapper's events, oldest first."""

    async def why(self, job: str, at: datetime) -> Answer:
        """What became of the job's slot at `at`, or nearest to it."""

    async def health(self) -> StoreHealth:
        """How the store fares, and how large it is."""
