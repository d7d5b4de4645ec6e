"""Forty jobs that are due in the same second on one machine, through a real Salt master and minion."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path

import trio

from saltpeter.client import Client, connect
from saltpeter.lab import Lab, free_ports, lab
from saltpeter.wrapper_build import build
from tests.bench.frame import Sheet
from tests.bench.site import child, job, scratch, settings, write

COUNTS = (1, 10, 40)
AHEAD_S = 4
DEADLINE_S = 120.0


async def starts_s(made: Lab, directory: Path, count: int) -> list[float]:
    """Seconds from the slot to the start of each command, ascending."""
    slot = time.gmtime(time.time() + AHEAD_S)
    fields = {"sec": slot.tm_sec, "min": slot.tm_min, "hour": slot.tm_hour, "dom": slot.tm_mday, "mon": slot.tm_mon}
    jobs = {}
    for number in range(count):
        jobs[f"job{count}x{number}"] = job(**fields, timezone="UTC", targets=made.minions[0], command="true")
        del jobs[f"job{count}x{number}"]["schedule"]
    write(directory / "conf.d", "jobs", jobs)
    due = time.mktime(slot) - time.timezone
    async with connect(directory / "state" / "control.sock") as client:
        await trio.sleep(AHEAD_S)
        with trio.fail_after(DEADLINE_S):
            return sorted([await _start(client, f"{name}_{int(due)}") - due for name in jobs])


async def _start(client: Client, run: str) -> float:
    """When the run's command began, in seconds since 1970."""
    while True:
        runs = await client.request("getRuns", {"cron": run.rpartition("_")[0], "limit": 1})
        if runs["runs"] and runs["runs"][0]["verdict"]:
            found = await client.request("getRun", run)
            [result] = found["results"].values()
            return datetime.fromisoformat(result["started"]).timestamp()
        await trio.sleep(0.2)


async def measure(sheet: Sheet, scale: float) -> None:
    async with lab(minions=1) as made:
        with scratch() as directory:
            [port] = free_ports(1)
            file = directory / "sp_wrapper.py"
            build(file)
            own = settings(directory, port, master_config=str(made.master_config), default_wrapper_path=str(file))
            write(directory / "conf.d", "settings", own)
            with (directory / "stderr").open("ab") as stderr:
                arguments = [sys.executable, "-m", "saltpeter", "daemon", "-c", str(directory / "conf.d")]
                with child(arguments, stderr=stderr):
                    while b"Ready: " not in (directory / "stderr").read_bytes():  # noqa: ASYNC110
                        await trio.sleep(0.05)
                    for count in COUNTS:
                        found = await starts_s(made, directory, max(1, int(count * scale)))
                        case = f"{len(found)} job{'s' if len(found) > 1 else ''}"
                        sheet.add(case, "slot to the first command", "s", [found[0]])
                        sheet.add(case, "slot to the last command", "s", [found[-1]])
                        if len(found) > 1:
                            sheet.add(case, "starts", "a second", [len(found) / found[-1]])
