"""A past for a daemon that has not begun yet: written into its store as a daemon would have."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import trio

from saltpeter.domain.events import (
    Confirmed,
    Ended,
    ExecutionId,
    Launched,
    LedgerEvent,
    Reason,
    RunEnded,
    RunStarted,
    SlotPassed,
    Started,
    Targeted,
)
from saltpeter.domain.outcome import LOST, NO_RESPONSE, End, Outcome
from saltpeter.domain.verdict import Verdict
from saltpeter.store.sqlite import SqliteStore, open_store
from sp_wrapper import wire

FINE = Outcome(end=End.EXITED, code=0, usage=wire.Usage(user_s=1.25, system_s=0.5, max_rss=48 * 2**20))
BROKEN = Outcome(end=End.EXITED, code=2, usage=wire.Usage(user_s=0.25, system_s=0.125, max_rss=12 * 2**20))
SECOND = timedelta(seconds=1)
CHUNK = 2000  # events in one commit


@attrs.frozen
class Past:
    """A run as it was: `outcomes` by machine; None for one that has not ended, and then the run has not either."""

    job: str
    at: datetime
    took_s: float
    outcomes: Mapping[str, Outcome | None]
    output: Mapping[str, bytes] = attrs.field(factory=dict)

    @property
    def id(self) -> str:
        return f"{self.job}_{int(self.at.timestamp())}"

    def events(self) -> Iterator[LedgerEvent]:
        machines = tuple(self.outcomes)
        yield RunStarted(run=self.id, job=self.job, slot=self.at, by="schedule", token="t", at=self.at)
        yield Targeted(run=self.id, machines=machines, at=self.at)
        yield Launched(run=self.id, ticket="1", attempt=1, machines=machines, at=self.at)
        for number, (machine, outcome) in enumerate(self.outcomes.items()):
            execution = ExecutionId(self.id, machine)
            yield Confirmed(execution=execution, at=self.at + SECOND)
            yield Started(execution=execution, pid=2000 + number, version="1.0.0", at=self.at + SECOND)
            if outcome is not None:
                took = self.took_s * (0.5 + (number * 37 % 50) / 100)
                yield Ended(execution=execution, outcome=outcome, at=self.at + timedelta(seconds=took))
        if None not in self.outcomes.values():
            yield RunEnded(run=self.id, verdict=self.verdict, at=self.at + timedelta(seconds=self.took_s))

    @property
    def verdict(self) -> Verdict:
        fine = all(outcome is not None and outcome.succeeded for outcome in self.outcomes.values())
        return Verdict.SUCCEEDED if fine else Verdict.FAILED


def write_past(state: Path, runs: Sequence[Past], passed: Sequence[SlotPassed] = ()) -> None:
    """Make it the past of the daemon whose `statedir` this is; it must not be running."""
    state.mkdir(parents=True, exist_ok=True)
    trio.run(_write, state, runs, passed)


async def _write(state: Path, runs: Sequence[Past], passed: Sequence[SlotPassed]) -> None:
    async with open_store(state, "1.0.0") as store:
        await store.commit(*passed)
        for run in runs:
            events = list(run.events())
            for start in range(0, len(events), CHUNK):
                await store.commit(*events[start : start + CHUNK])
            async with trio.open_nursery() as nursery:
                for machine, data in run.output.items():
                    nursery.start_soon(_append, store, ExecutionId(run.id, machine), data)


async def _append(store: SqliteStore, execution: ExecutionId, data: bytes) -> None:
    await store.append(execution, 0, data)


# --- a fleet that looks like one ------------------------------------------------------------------


@attrs.frozen
class Sample:
    group: str
    name: str
    schedule: str
    targets: str  # the beginning of the machines' names
    took_s: float
    text: str = ""
    tags: tuple[str, ...] = ()

    @property
    def machines(self) -> list[str]:
        return [machine for machine in MACHINES if machine.startswith(self.targets)]

    @property
    def written(self) -> dict[str, Any]:
        return {
            "schedule": self.schedule,
            "targets": self.machines,
            "target_type": "list",
            "timezone": "Europe/Berlin",
            "command": f"{self.name} --verbose || true",
            "misfire": "skip",
            **({"description": self.text} if self.text else {}),
            **({"tags": list(self.tags)} if self.tags else {}),
            **({"enabled": False} if self.name == "restore-drill" else {}),
        }


MACHINES = [
    *(f"db{number:02}" for number in range(1, 9)),
    *(f"web{number:02}" for number in range(1, 7)),
    "ci01",
    "san1",
]
SAMPLES = (
    Sample("backup", "db-backup", "0 3 * * *", "db", 840, "Every database, with a checksum", ("nightly", "critical")),
    Sample("backup", "wal-archive", "*/5 * * * *", "db", 12, "Ship the write-ahead log"),
    Sample("backup", "snapshot-volumes", "30 1 * * 0", "san", 2400, "Weekly snapshots", ("nightly",)),
    Sample("backup", "restore-drill", "0 6 1 * *", "db07", 5400, "Restore the last dump and compare", ("critical",)),
    Sample("certificates", "renew-certificates", "15 4 * * 1-5", "web", 55, "Let us not page anybody on a Sunday"),
    Sample("certificates", "check-expiry", "@hourly", "", 4, "Warn 21 days ahead"),
    Sample("maintenance", "apt-upgrade", "0 5 * * 2", "", 310, "Security updates, a tenth at a time", ("critical",)),
    Sample("maintenance", "prune-images", "45 2 * * *", "ci", 95, "Docker images of the week before last"),
    Sample("maintenance", "rotate-logs", "0 0 * * *", "", 9, tags=("nightly",)),
    Sample("maintenance", "clear-cache", "*/15 * * * *", "web", 3),
    Sample("maintenance", "fsck-report", "0 7 * * 6", "san", 41, "What smartctl says"),
    Sample("reports", "usage-report", "30 6 1,15 * *", "ci", 128, "For accounting"),
    Sample("reports", "inventory", "0 */6 * * *", "", 22, "Grains and packages of every machine"),
    Sample("reports", "slow-queries", "5 * * * *", "db", 6, "pg_stat_statements of the last hour"),
)


def fleet_jobs() -> dict[str, dict[str, Any]]:
    """Files of jobs: by file, by job."""
    groups = sorted({sample.group for sample in SAMPLES})
    return {group: {each.name: each.written for each in SAMPLES if each.group == group} for group in groups}


def fleet_past(now: datetime) -> tuple[list[Past], list[SlotPassed]]:
    """Some weeks of it: most went well, `renew-certificates` and one machine of `db-backup` did not."""
    chance = random.Random(7)  # noqa: S311  the same past each time
    runs = []
    for sample in SAMPLES:
        for age in range(24, 0, -1):
            at = (now - age * timedelta(hours=7, minutes=13)).replace(microsecond=0)
            outcomes: dict[str, Outcome | None] = dict.fromkeys(sample.machines, FINE)
            if sample.name == "db-backup" and age in (1, 2, 5, 9):
                outcomes["db07"] = BROKEN
            if (sample.name == "renew-certificates" and age < 4) or chance.random() < 0.02:
                outcomes[sample.machines[-1]] = LOST if chance.random() < 0.5 else NO_RESPONSE
            wrote = (
                {machine: _report(sample.name, machine, outcomes[machine]) for machine in outcomes} if age == 1 else {}
            )
            runs.append(Past(sample.name, at, sample.took_s * chance.uniform(0.8, 1.3), outcomes, wrote))
    slot = (now - timedelta(hours=3)).replace(microsecond=0)
    held = SlotPassed(job="db-backup", slot=slot, reason=Reason.MAINTENANCE, text="global maintenance is on", at=slot)
    return sorted(runs, key=lambda run: run.at), [held]


def _report(job: str, machine: str, outcome: Outcome | None) -> bytes:
    sizes = {f"app{number:02}": number * 37 % 90 + 10 for number in range(1, 12)}
    lines = [
        f"\x1b[1m{job}\x1b[0m starting",
        *(f"  {name}  \x1b[32mok\x1b[0m  {size:>3} MB  sha256 matches" for name, size in sizes.items()),
        "\x1b[32mdone\x1b[0m: 11 of 11"
        if outcome is FINE
        else f"\x1b[31merror\x1b[0m: no space left on /srv/{machine}",
    ]
    return "\n".join(lines).encode() + b"\n"


def utc_now() -> datetime:
    return datetime.now(timezone.utc)
