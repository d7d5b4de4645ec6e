"""What was, of a ledger with very many runs, asked on the control socket."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from saltpeter.client import Client
from saltpeter.store.places import Places
from saltpeter.store.schema import LEDGER, connect
from tests.bench.frame import Sheet, at_most
from tests.bench.site import job, plant

COUNTS = (10_000, 100_000, 1_000_000)
MACHINES = 5000
JOBS = 50
ROUNDS = 21
OUTCOME = '{"end": "exited", "code": 0}'
FIRST_S = 1_700_000_000


def runs(count: int) -> Iterator[tuple[int, str, int, int, int]]:
    """Half of the runs are of the one job that is asked for."""
    for key in range(1, count + 1):
        number = 1 if key % 2 else 2 + key % JOBS
        at_us = (FIRST_S + 30 * key) * 1_000_000
        yield key, f"job{number}_{FIRST_S + 30 * key}", number, at_us, at_us + 2_000_000


def fill(count: int, directory: Path) -> None:
    """A ledger with so many ended runs of one machine, and one of MACHINES."""
    places = Places(directory / "state")
    places.statedir.mkdir(mode=0o700)
    ledger = connect(places.ledger, LEDGER)
    ledger.execute("BEGIN")
    ledger.executemany("INSERT INTO jobs (key, name) VALUES (?, ?)", [(n, f"job{n}") for n in range(1, JOBS + 3)])
    ledger.executemany(
        "INSERT INTO runs (key, run, job, slot_us, started_by, token, started_us, ended_us, verdict)"
        " VALUES (?1, ?2, ?3, ?4, 'schedule', '', ?4, ?5, 'success')",
        runs(count),
    )
    _add_executions(ledger, [(key, f"m{key % 100}", at) for key, _, _, at, _ in runs(count)])
    big, at_us = count + 1, (FIRST_S + 30 * count + 60) * 1_000_000
    ledger.execute(
        "INSERT INTO runs (key, run, job, started_by, token, started_us, ended_us, verdict)"
        " VALUES (?, 'big_1', ?, 'anna', '', ?, ?, 'success')",
        [big, JOBS + 2, at_us, at_us],
    )
    _add_executions(ledger, [(big, f"m{number:05}", at_us) for number in range(MACHINES)])
    ledger.execute("UPDATE jobs SET last_run = (SELECT max(key) FROM runs WHERE job = jobs.key)")
    ledger.execute("COMMIT")
    ledger.close()


def _add_executions(ledger: sqlite3.Connection, rows: list[tuple[int, str, int]]) -> None:
    ledger.executemany(
        "INSERT INTO executions (run, machine, attempt, targeted_us, launched_us, confirmed_us, started_us, ended_us,"
        " outcome) VALUES (?1, ?2, 1, ?3, ?3, ?3, ?3, ?3, ?4)",
        [(*row, OUTCOME) for row in rows],
    )


async def ask_ms(client: Client, verb: str, value: Any, rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await client.request(verb, value)
        found.append((time.perf_counter() - begun) * 1000)
    return found[1:]


async def measure(sheet: Sheet, scale: float) -> None:
    rounds = max(4, int(ROUNDS * scale))
    for count in (max(1000, int(count * scale)) for count in COUNTS):
        jobs = {f"job{number}": job() for number in range(1, JOBS + 3)}
        async with plant(jobs, prepare=partial(fill, count)) as made, made.client() as client:
            case = f"{count:,} runs stored"
            last = await ask_ms(client, "getRuns", {"cron": "job1", "limit": 100}, rounds)
            big = await ask_ms(client, "getRun", "big_1", rounds)
        sheet.add(case, "the last 100 runs of a job", "ms", last, at_most(10))
        sheet.add(case, f"a run with {MACHINES:,} machines", "ms", big, at_most(100))
