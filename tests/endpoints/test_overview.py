"""What the timeline, the machines and the front page ask for, over the real store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs
import pytest

from saltpeter.domain.events import Configured, Ended, ExecutionId, NextSlot, RunStarted
from saltpeter.domain.outcome import LOST
from saltpeter.domain.verdict import Verdict
from saltpeter.endpoints import verbs
from saltpeter.endpoints.forms import BadRequest, Moment
from saltpeter.endpoints.pulse import Pulse
from saltpeter.endpoints.readiness import always
from saltpeter.endpoints.vitals import AllVitals
from tests.endpoints.rig import NOON
from tests.endpoints.scene import FINE, config, job
from tests.endpoints.test_queries import HOUR, NOW, SECOND, library

DAY = 24 * HOUR


async def test_what_was_and_what_comes_is_told_of_each_job(tmp_path: Path) -> None:
    async with library(tmp_path, job("backup", "0 * * * *"), job("yearly", "0 0 1 1 *")) as lib:
        await lib.tell(NOON, Verdict.FAILED, m1=LOST)
        lib.board.post(NextSlot(job="backup", slot=NOW + HOUR))
        lib.board.post(NextSlot(job="yearly", slot=NOW + 40 * DAY))
        near = await lib.queries.overview(verbs.GetActive(Moment(NOON - HOUR), Moment(NOW + 2 * HOUR)))
        assert near == {
            "crons": {
                "backup": {
                    "began": NOON,
                    "failed": True,
                    "passed": False,
                    "coming": (NOW + HOUR),
                }
            }
        }
        new_year = await lib.queries.overview(verbs.GetActive(Moment(NOON + 41 * DAY), Moment(NOON + 42 * DAY)))
        assert new_year["crons"]["yearly"]["coming"] == datetime(2027, 1, 1, tzinfo=timezone.utc)
        with pytest.raises(BadRequest):
            await lib.queries.overview(verbs.GetActive(Moment(NOON), Moment(NOON)))


async def test_bars_are_told_with_the_slots_to_come(tmp_path: Path) -> None:
    async with library(tmp_path, job("backup", "0 * * * *"), job("often", "* * * * *")) as lib:
        run = await lib.tell(NOON, Verdict.SUCCEEDED, m1=FINE)
        asked = verbs.GetBars(("backup", "often", "gone"), Moment(NOON - HOUR), Moment(NOW + 2 * HOUR), 600.0)
        found = await lib.queries.overview(asked)
        assert found["bars"] == [
            {
                "cron": "backup",
                "began": NOON,
                "ended": (NOON + 10 * SECOND),
                "runs": 1,
                "failed": 0,
                "job_instance": run,
                "verdict": "success",
            }
        ]
        assert found["complete"]
        coming = [each["slot"] for each in found["coming"] if each["cron"] == "often"]
        assert coming[:2] == [NOW, (NOW + timedelta(minutes=10))]
        assert len(coming) == 12
        lib.board.post(Configured(config=config(), at=NOW))  # what is no job any more comes no more
        assert (await lib.queries.overview(asked))["coming"] == []


async def test_machines_are_told(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        run = await lib.tell(NOON, Verdict.FAILED, m1=LOST, m2=FINE)
        told = await lib.queries.fleet(verbs.GetMachines())
        m1, m2 = told["machines"]
        ended = NOON + 9 * SECOND
        part = {
            "job_instance": run,
            "cron": "backup",
            "attempt": 1,
            "started": (NOON + SECOND),
            "ended": ended,
            "outcome": "lost",
            "retcode": 253,
        }
        assert m1 == {
            "machine": "m1",
            "ended": ended,
            "last": part,
            "failures": 1,
            "failed": part,
            "silent_since": ended,
        }
        assert (m2["failures"], m2["failed"], m2["silent_since"]) == (0, None, None)
        assert await lib.queries.fleet(verbs.GetMachine("m1")) == {"machine": "m1", "parts": [part]}
        assert (await lib.queries.fleet(verbs.GetMachines(Moment(NOW))))["machines"] == []


async def test_health_tells_of_the_last_hour(tmp_path: Path) -> None:
    async with library(tmp_path) as lib:
        pulse = Pulse(NOON - DAY)
        for slot, late in ((NOW - 2 * HOUR, 50 * SECOND), (NOW - HOUR / 2, SECOND), (NOW - HOUR / 3, 2 * SECOND)):
            run = RunStarted(run="r", job="backup", slot=slot, by="schedule", token="t", at=slot + late)
            pulse.post(run)
        pulse.post(RunStarted(run="h", job="backup", slot=None, by="me", token="t", at=NOW))
        pulse.post(Ended(execution=ExecutionId("r", "m1"), outcome=FINE, at=NOW))
        assert pulse.told(NOW)["lag"] == 0.0  # nothing that anybody would notice
        pulse.lagged(0.5, NOW)
        vitals = AllVitals({"ports": always("here")}, pulse, lib.store.health, lambda: NOW)
        told = await attrs.evolve(lib.queries, vitals=vitals).health()
        assert (told["slots"], told["late"], told["lag"], told["since"]) == (2, 2.0, 0.5, (NOON - DAY))
        assert (told["ready"], told["checks"]) == (True, {"ports": {"ok": True, "text": "here"}})
        assert told["store"]["ok"]
        assert told["store"]["free_bytes"] > 0
