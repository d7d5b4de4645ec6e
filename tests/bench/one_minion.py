"""Jobs that are due in the same second on the same machine, through a real Salt master and minion.

Twice: as it is, and with a daemon that publishes each launch by itself.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import attrs
import trio

from saltpeter.client import Client, connect
from saltpeter.lab import Lab, free_ports, lab
from saltpeter.wrapper_build import build
from tests.bench import machine
from tests.bench.frame import Sheet, at_least, percentile
from tests.bench.site import child, due_once, scratch, settings, write

MANY = 40
ROUNDS = {"": 2, ", each by itself": 1}  # the latter takes longer
FASTER = at_least(1.5)  # what is left is the start of the commands, and that takes the machine as long either way
AHEAD_S = 4
READY_S = 60.0
DEADLINE_S = 180.0
DAEMONS = {"": "saltpeter", ", each by itself": "tests.bench.singly"}


@attrs.frozen
class Burst:
    """What came of jobs that were due at once."""

    starts_s: tuple[float, ...]  # from the slot to each command's start, ascending
    publishes: int
    master_cpu_s: float

    @property
    def a_second(self) -> float:
        return len(self.starts_s) / self.starts_s[-1]


@attrs.define
class Site:
    made: Lab
    directory: Path
    _bursts: int = attrs.field(default=0, init=False)

    async def burst(self, count: int) -> Burst:
        self._bursts += 1
        due = int(time.time()) + AHEAD_S
        wanted = due_once(due, targets=self.made.minions[0], target_type="glob")
        names = [f"b{self._bursts}x{number}" for number in range(count)]
        published, cpu_s = self._published(), self._master_cpu_s()
        write(self.directory / "conf.d", "jobs", dict.fromkeys(names, wanted))
        async with connect(self.directory / "state" / "control.sock") as client:
            await trio.sleep(AHEAD_S)
            with trio.fail_after(DEADLINE_S):
                starts = [start - due for name in names for start in await _starts(client, f"{name}_{due}")]
        return Burst(tuple(sorted(starts)), len(self._published() - published), self._master_cpu_s() - cpu_s)

    def _published(self) -> set[str]:
        log = (self.directory / "stderr").read_text()
        return set(re.findall(r"Waiting for Salt to confirm wrapper execution for job (\S+)\.\.\.", log))

    def _master_cpu_s(self) -> float:
        return machine.group_cpu_s(self.made._running["master"].pid)


async def _starts(client: Client, run: str) -> list[float]:
    """When the run's commands began, in seconds since 1970."""
    while True:
        runs = await client.request("getRuns", {"cron": run.rpartition("_")[0], "limit": 1})
        if runs["runs"] and runs["runs"][0]["verdict"]:
            found = await client.request("getRun", run)
            return [datetime.fromisoformat(result["started"]).timestamp() for result in found["results"].values()]
        await trio.sleep(0.2)


@asynccontextmanager
async def site(made: Lab, daemon: str) -> AsyncIterator[Site]:
    with scratch() as directory:
        [port] = free_ports(1)
        file = directory / "sp_wrapper.py"
        build(file)
        own = settings(directory, port, master_config=str(made.master_config), default_wrapper_path=str(file))
        write(directory / "conf.d", "settings", own)
        with (directory / "stderr").open("ab") as stderr:
            arguments = [sys.executable, "-m", daemon, "daemon", "-c", str(directory / "conf.d")]
            with child(arguments, stderr=stderr), trio.fail_after(READY_S) as ready:
                while b"Ready: " not in (directory / "stderr").read_bytes():  # noqa: ASYNC110
                    await trio.sleep(0.05)
                ready.deadline = float("inf")
                yield Site(made, directory)


async def measure(sheet: Sheet, scale: float) -> None:
    many = max(2, int(MANY * scale))
    rates: dict[str, float] = {}
    async with lab(minions=1) as made:
        for how, daemon in DAEMONS.items():
            async with site(made, daemon) as at:
                alone = [await at.burst(1) for _ in range(ROUNDS[how])]
                bursts = [await at.burst(many) for _ in range(ROUNDS[how])]
            sheet.add(f"1 job{how}", "slot to the command", "s", [burst.starts_s[0] for burst in alone])
            case = f"{many} jobs{how}"
            sheet.add(case, "publishes", "", [burst.publishes for burst in bursts])
            sheet.add(case, "slot to the first command", "s", [burst.starts_s[0] for burst in bursts])
            sheet.add(case, "slot to the last command", "s", [burst.starts_s[-1] for burst in bursts])
            found = [burst.a_second for burst in bursts]
            sheet.add(case, "starts", "a second", found)
            sheet.add(case, "CPU of the master", "s", [burst.master_cpu_s for burst in bursts])
            rates[how] = percentile(found, 50)
    together, singly = rates.values()
    sheet.add(f"{many} jobs", "starts, of those each by itself", "times", [together / singly], FASTER)
