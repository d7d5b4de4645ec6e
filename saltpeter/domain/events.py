"""What happens: the events that go to the ledger (durable) and to the board (what people see now)."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias, Union

import attrs

from saltpeter.domain.job import Config, Hold
from saltpeter.domain.outcome import Outcome
from saltpeter.domain.verdict import Verdict

if TYPE_CHECKING:
    from saltpeter.domain.state import RunState


@attrs.frozen(order=True, cache_hash=True)
class ExecutionId:
    """One machine's part of a run. Retries on the machine count up `attempt`, from 1."""

    run: str
    machine: str
    attempt: int = 1

    def __str__(self) -> str:
        return f"{self.run}:{self.machine}"


class Reason(enum.Enum):
    """Why a slot did not run."""

    OVERLAP = "overlap"
    MAINTENANCE = "maintenance"
    NO_TARGETS = "no_targets"
    MISSED = "missed"  # noticed later than its misfire_grace
    COALESCED = "coalesced"  # one run stands for several slots of a gap
    WAITING = "waiting"  # for the job's last run to end; then it runs, or another reason follows
    HELD = "held"  # the store could not make it durable, or the daemon was stopping
    FAILED = "error"


@attrs.frozen(kw_only=True)
class RunStarted:
    """In the ledger before anything is launched. `slot` is None for a run by hand."""

    run: str
    job: str
    slot: datetime | None
    by: str  # "schedule", or who asked
    token: str  # what the machines' wrappers must show; never pushed to clients
    at: datetime


@attrs.frozen(kw_only=True)
class SlotPassed:
    """A slot that did not become a run; with `last`, all the job's slots from `slot` to `last`."""

    job: str
    slot: datetime
    reason: Reason
    text: str
    at: datetime
    last: datetime | None = None


@attrs.frozen(kw_only=True)
class Awaited:
    """From `at` on the job's slots count: it is new, it came back, or its schedule has changed."""

    job: str
    at: datetime


@attrs.frozen(kw_only=True)
class Targeted:
    """The machines that the run is for, in launch order; those not launched yet wait for their batch."""

    run: str
    machines: tuple[str, ...]
    at: datetime


@attrs.frozen(kw_only=True)
class Launched:
    """Durable before publishing: `ticket` (Salt's jid) is what phase 1 asks for after any crash."""

    run: str
    ticket: str
    attempt: int
    machines: tuple[str, ...]
    at: datetime


@attrs.frozen(kw_only=True)
class Retrying:
    """A further attempt on a machine that failed, which waits for its launch; or one that the ledger had lost."""

    execution: ExecutionId
    at: datetime


@attrs.frozen(kw_only=True)
class Confirmed:
    """Salt said that the wrapper started, or the wrapper said so first."""

    execution: ExecutionId
    at: datetime


@attrs.frozen(kw_only=True)
class Started:
    execution: ExecutionId
    pid: int
    version: str
    at: datetime


@attrs.frozen(kw_only=True)
class Bound:
    """From now on only who shows the secret with this digest (SHA-256, in hex) speaks for the execution."""

    execution: ExecutionId
    digest: str
    at: datetime


@attrs.frozen(kw_only=True)
class OutputGrew:
    """`length` counts the bytes that are durable. For the board only: the store holds the bytes themselves."""

    execution: ExecutionId
    length: int
    at: datetime


@attrs.frozen(kw_only=True)
class KillRequested:
    """Somebody asked for an end; `machines` is empty when the whole run is meant.

    `signal` and `grace_s` take the place of the job's own, where they are given.
    """

    run: str
    machines: tuple[str, ...]
    by: str
    at: datetime
    signal: str | None = None
    grace_s: float | None = None


@attrs.frozen(kw_only=True)
class HoldSet:
    """Maintenance by hand has begun, or its reason or end has changed."""

    hold: Hold
    at: datetime


@attrs.frozen(kw_only=True)
class HoldEnded:
    machine: str
    by: str
    at: datetime


@attrs.frozen(kw_only=True)
class Paused:
    """The command's processes are stopped, or go on. For the board only: the machine says so with each heartbeat."""

    execution: ExecutionId
    paused: bool


@attrs.frozen(kw_only=True)
class Ended:
    execution: ExecutionId
    outcome: Outcome
    at: datetime


@attrs.frozen(kw_only=True)
class CameLate:
    """The machine's own word, after the execution had been given up. The first outcome stands beside it."""

    execution: ExecutionId
    outcome: Outcome
    at: datetime


@attrs.frozen(kw_only=True)
class RunEnded:
    run: str
    verdict: Verdict
    at: datetime
    text: str = ""  # why, where no execution tells it: a target that cannot be read, for one


@attrs.frozen(kw_only=True)
class Configured:
    config: Config
    at: datetime


@attrs.frozen(kw_only=True)
class NextSlot:
    """When the job is due next; None for never. For the board only."""

    job: str
    slot: datetime | None


@attrs.frozen(kw_only=True)
class Recalled:
    """A run that the ledger remembers from before this daemon started. For the board only."""

    run: RunState


@attrs.frozen(kw_only=True)
class StoreFares:
    """The store cannot write, and why; or it can again (None). For the board only."""

    problem: str | None
    at: datetime


LedgerEvent: TypeAlias = Union[
    RunStarted,
    SlotPassed,
    Awaited,
    Targeted,
    Launched,
    Retrying,
    Confirmed,
    Started,
    Bound,
    KillRequested,
    Ended,
    CameLate,
    RunEnded,
    HoldSet,
    HoldEnded,
]
Event: TypeAlias = Union[LedgerEvent, OutputGrew, Paused, Configured, NextSlot, Recalled, StoreFares]
