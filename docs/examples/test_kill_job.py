"""Kill a job and see for yourself that it is dead.

    python3 test_kill_job.py JOB [SOCKET]

Starts JOB if it is not running, kills it everywhere, and checks on each machine that it ended with 143, that its
output says why, and that nothing survived. Exits 0 if all of that is so, else 1. SOCKET is the daemon's control
socket, where it is not in the usual place.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import trio

from saltpeter.client import Client, connect
from saltpeter.errors import CommandRefused, SaltpeterError
from saltpeter.host import control_socket

PATIENCE_S = 60.0
KILLED = 143
SAID = "[Job terminated by user request]"


async def running(client: Client, job: str) -> str:
    """The id of a living run of `job`: one that there is already, or a new one."""
    try:
        started = await client.request("run", job)
    except CommandRefused as refused:
        if refused.code != "overlap":
            raise
        [started] = (await client.request("getRuns", {"cron": job, "limit": 1}))["runs"]
    return str(started["job_instance"])


async def until_it_runs(client: Client, run: str) -> None:
    """Wait until a machine has reported the start of its command."""
    async for message in client:
        details = message.get("data", {})
        if details.get("job_instance") == run and any(map(has_started, details["results"].values())):
            return


def has_started(result: dict[str, Any]) -> bool:
    return bool(result["wrapper_version"])


async def kill(client: Client, job: str, run: str) -> tuple[dict[str, Any], dict[str, str]]:
    """End the run; what came of it on each machine, and each machine's output."""
    await client.request("killCron", {"cron": job, "job_instance": run})
    receipt: dict[str, Any] = {}
    output: dict[str, str] = defaultdict(str)
    complete: set[str] = set()
    async for message in client:
        if message["type"] == "kill_receipt":
            receipt = message["machines"]
        if message["type"] == "output_chunk" and message["instance"] == run:
            output[message["machine"]] += message["chunk"]
            complete |= {message["machine"]} if message["is_complete"] else set()
        if receipt and receipt.keys() <= complete:
            break
    return receipt, output


def complaints(end: dict[str, Any], output: str) -> list[str]:
    """What is not as it should be on one machine."""
    survived = (end["receipt"] or {}).get("survived", [])
    wrong = [f"its exit code is {end['retcode']}"] if end["retcode"] != KILLED else []
    wrong += [] if SAID in output else ["its output does not say why it ended"]
    return wrong + [f"{process['name']} ({process['pid']}) is still alive" for process in survived]


async def check(job: str, where: Path) -> bool:
    async with connect(where) as client:
        run = await running(client, job)
        await client.request("subscribe", {"cron": job, "job_instance": run})
        await until_it_runs(client, run)
        receipt, output = await kill(client, job, run)
    good = True
    for machine, end in sorted(receipt.items()):
        wrong = complaints(end, output[machine])
        good &= not wrong
        print(f"{run} on {machine}: {'; '.join(wrong) or 'dead, with 143, and its output says why'}")
    return good


async def main(job: str, where: Path) -> int:
    try:
        with trio.fail_after(PATIENCE_S):
            return 0 if await check(job, where) else 1
    except (SaltpeterError, trio.TooSlowError) as error:
        print(f"{job}: {error or f'not within {PATIENCE_S:g} seconds'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(trio.run(main, sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else control_socket()))
