"""What was, of a ledger with very many runs, asked on the control socket; and what forgetting many of them costs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import trio

from saltpeter.client import Client
from saltpeter.store.places import Places
from saltpeter.store.schema import LEDGER, connect
from tests.bench.frame import Sheet, Target, at_most, percentile
from tests.bench.site import Plant, job, plant, settings, write

COUNTS = (10_000, 100_000, 1_000_000)
MACHINES = 5000
JOBS = 50
ROUNDS = 15
KEPT_DAYS, FORGOTTEN_DAYS = 80, 1  # all runs are of the former, and the oldest of them are to be forgotten
FORGOTTEN_S = 60.0  # for that

# Half of the runs are of the one job that is asked for, and one in twenty fails.
_FILL = """
    INSERT INTO jobs (key, name) WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers
        WHERE n < :jobs + 2) SELECT n, 'job' || n FROM numbers;
    INSERT INTO runs (key, run, job, slot_us, started_by, token, started_us, ended_us, verdict, ran_on, failed_on)
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count),
        slots AS (SELECT n, iif(n % 2, 1, 2 + n % :jobs) AS job, :last_us - (:count - n) * :apart_us AS at_us
            FROM numbers)
        SELECT n, 'job' || job || '_' || (at_us / 1000000), job, at_us, 'schedule', '', at_us, at_us + 2000000,
            iif(n % 20, 'success', 'failed'), 1, n % 20 = 0
        FROM slots;
    INSERT INTO executions (run, machine, attempt, targeted_us, launched_us, confirmed_us, started_us, ended_us,
        outcome)
        SELECT key, 'm' || key % 100, 1, started_us, started_us + 4000, started_us + 300000, started_us + 310000,
            ended_us, iif(key % 20, '{"end": "exited", "code": 0}', '{"end": "exited", "code": 1}')
        FROM runs ORDER BY key;
    INSERT INTO runs (key, run, job, started_by, token, started_us, ended_us, verdict, ran_on, failed_on)
        VALUES (:count + 1, 'big_1', :jobs + 2, 'anna', '', :last_us + 1, :last_us + 60000000, 'success', :machines, 0);
    INSERT INTO executions (run, machine, attempt, targeted_us, launched_us, confirmed_us, started_us, ended_us,
        outcome)
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :machines)
        SELECT :count + 1, 'big' || n, 1, :last_us + 1, :last_us + 4000, :last_us + 300000 + n, :last_us + 310000 + n,
            :last_us + 2000000 + n, '{"end": "exited", "code": 0}'
        FROM numbers;
    UPDATE jobs SET last_run = (SELECT key FROM runs WHERE job = jobs.key ORDER BY started_us DESC LIMIT 1);
"""


def apart_s(count: int) -> float:
    """Seconds from one run to the next."""
    return KEPT_DAYS * 86400 / count


def fill(count: int, directory: Path) -> None:
    """A ledger with so many ended runs of one machine, and one of MACHINES."""
    places = Places(directory / "state")
    places.statedir.mkdir(mode=0o700)
    ledger = connect(places.ledger, LEDGER)
    ledger.execute("PRAGMA synchronous = OFF")
    ledger.execute("PRAGMA cache_size = -200000")  # KiB
    values = {
        "jobs": JOBS,
        "count": count,
        "machines": MACHINES,
        "last_us": int((time.time() - 120) * 1_000_000),
        "apart_us": int(apart_s(count) * 1_000_000),
    }
    ledger.execute("BEGIN")
    for statement in _FILL.split(";"):
        ledger.execute(statement, values)
    ledger.execute("COMMIT")
    ledger.close()


def questions(count: int) -> Mapping[str, tuple[str, Any, Target | None]]:
    """What is asked, and how fast it is to be answered. Spans of time hold a thousand runs, however many there are."""
    since = f"now-{int(1000 * apart_s(count)) + 120}s"
    while_ago = (datetime.now(timezone.utc) - timedelta(days=KEPT_DAYS / 2)).isoformat()
    some = [f"job{number}" for number in range(1, 21)]
    return {
        "the last 100 runs of a job": ("getRuns", {"cron": "job1", "limit": 100}, at_most(10)),
        "its last 100 that failed": ("getRuns", {"cron": "job1", "limit": 100, "failed": True}, None),
        "a run with 5,000 machines": ("getRun", "big_1", at_most(100)),
        "the last 20 of each of 20 jobs": ("getLatest", {"crons": some}, None),
        "statistics of a job": ("stats", "job1", None),
        "why, of a slot in the middle": ("why", {"cron": "job1", "at": while_ago}, None),
        "which jobs had any of 1,000 runs": ("getActive", {"start_date": since, "end_date": "now"}, None),
        "bars of 1,000 runs": ("getBars", {"crons": some, "start_date": since, "end_date": "now", "grain": 1}, None),
        "a timeline of 1,000 runs, and of that one": ("getTimeline", {"start_date": since, "end_date": "now"}, None),
    }


async def ask_ms(client: Client, verb: str, value: Any, rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await client.request(verb, value)
        found.append((time.perf_counter() - begun) * 1000)
    return found[1:]


async def ask_while_forgetting(made: Plant, client: Client) -> tuple[list[float], float]:
    """Milliseconds of each answer while runs are forgotten, and of the longest turn of the loop."""
    own = settings(made.directory, made.port, retention={"days": KEPT_DAYS - FORGOTTEN_DAYS})
    await made.loop()
    write(made.conf_d, "settings", own)
    found: list[float] = []
    with trio.fail_after(FORGOTTEN_S):
        while b"Forgotten" not in (made.directory / "stderr").read_bytes():
            found += await ask_ms(client, "getRuns", {"cron": "job1", "limit": 100}, 2)
    return found, (await made.loop()).lag_ms


async def measure(sheet: Sheet, scale: float) -> None:
    rounds = max(4, int(ROUNDS * scale))
    for count in (max(1000, int(count * scale)) for count in COUNTS):
        case = f"{count:,} runs stored"
        jobs = {f"job{number}": job() for number in range(1, JOBS + 3)}
        async with plant(jobs, prepare=partial(fill, count)) as made, made.client() as client:
            for what, (verb, value, target) in questions(count).items():
                sheet.add(case, what, "ms", await ask_ms(client, verb, value, rounds), target)
            asked, lag_ms = await ask_while_forgetting(made, client)
        sheet.add(case, "the last 100 runs while a day is forgotten, p99", "ms", [percentile(asked, 99)])
        sheet.add(case, "longest turn of the loop meanwhile", "ms", [lag_ms])
