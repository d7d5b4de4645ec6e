"""The figures: names and units by Prometheus' rules, counted as things happen."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from saltpeter.domain.events import (
    CameLate,
    Confirmed,
    Ended,
    KillRequested,
    Launched,
    LedgerEvent,
    Reason,
    RunEnded,
    RunStarted,
    SlotPassed,
    Targeted,
)
from saltpeter.domain.outcome import LOST
from saltpeter.domain.verdict import Verdict
from saltpeter.endpoints.metrics import Metrics
from saltpeter.engine.board import Board
from saltpeter.engine.record import Copies, Recorder
from saltpeter.engine.storage import StoreHealth
from saltpeter.errors import StoreError
from tests.endpoints.rig import NOON
from tests.endpoints.scene import DB01, FINE, HEALTH, RUN, Scene
from tests.helpers.memory_store import MemoryStore

SECOND = timedelta(seconds=1)


@attrs.define
class Figures:
    """What a scrape said."""

    values: dict[str, float]

    @classmethod
    async def of(cls, metrics: Metrics) -> Figures:
        families = text_string_to_metric_families((await metrics.scrape()).decode())
        return cls({_name(each.name, each.labels): each.value for family in families for each in family.samples})

    def __getitem__(self, name: str) -> float:
        return self.values[f"saltpeter_{name}"]


def _name(name: str, labels: dict[str, str]) -> str:
    return name + "".join(f"{{{value}}}" for value in labels.values())


def metrics_of(board: Board) -> Metrics:
    async def health() -> StoreHealth:
        return HEALTH

    return Metrics(board, health)


STORY: tuple[LedgerEvent, ...] = (
    RunStarted(run=RUN, job="backup", slot=NOON, by="schedule", token="t", at=NOON + 3 * SECOND),
    Targeted(run=RUN, machines=("db01",), at=NOON + 3 * SECOND),
    Launched(run=RUN, ticket="1", attempt=1, machines=("db01",), at=NOON + 4 * SECOND),
    Confirmed(execution=DB01, at=NOON + 6 * SECOND),
    KillRequested(run=RUN, machines=(), by="x", at=NOON + 7 * SECOND),
    Ended(execution=DB01, outcome=LOST, at=NOON + 8 * SECOND),
    CameLate(execution=DB01, outcome=FINE, at=NOON + 9 * SECOND),
    RunEnded(run=RUN, verdict=Verdict.FAILED, at=NOON + 9 * SECOND),
    SlotPassed(job="backup", slot=NOON, reason=Reason.OVERLAP, text="", at=NOON),
    RunStarted(run="backup_8", job="backup", slot=None, by="unix:ops", token="t", at=NOON),
    Targeted(run="backup_8", machines=("db01", "db02"), at=NOON),
)


async def test_a_story_in_figures(autojump_clock: MockClock) -> None:
    scene = Scene()
    metrics = metrics_of(scene.board)
    recorder = Recorder(MemoryStore(commit_s=0.02), scene.board, Copies((metrics,)), metrics.committed)
    for event in STORY:
        await recorder.once(event)
    recorder.copy.output(DB01, b"12345", NOON)
    metrics.lagged(0.3)
    metrics.salt_failed()
    metrics.version("1.0")
    metrics.gauge("saltpeter_wrappers_connected", "Connections", lambda: 2)
    figures = await Figures.of(metrics)
    assert {
        name: figures[name]
        for name in (
            *("fires_total{schedule}", "fires_total{person}", "fires_total{orphan}"),
            *("lateness_seconds_sum", "phase1_seconds_sum", "kills_total", "executions_late_total"),
            *("runs_total{failed}", "runs_total{success}", "executions_ended_total{lost}", "output_bytes_total"),
            *("slots_passed_total{overlap}", "runs_running", "executions_running", "store_commit_seconds_count"),
            *("event_loop_lag_seconds_count", "salt_errors_total", "config_jobs", "config_problems", "store_ok"),
            *("store_bytes{ledger}", "build_info{1.0}", "wrappers_connected"),
        )
    } == {
        "fires_total{schedule}": 1,
        "fires_total{person}": 1,
        "fires_total{orphan}": 0,
        "lateness_seconds_sum": 3,
        "phase1_seconds_sum": 2,
        "kills_total": 1,
        "executions_late_total": 1,
        "runs_total{failed}": 1,
        "runs_total{success}": 0,
        "executions_ended_total{lost}": 1,
        "output_bytes_total": 5,
        "slots_passed_total{overlap}": 1,
        "runs_running": 1,
        "executions_running": 2,
        "store_commit_seconds_count": len(STORY),
        "event_loop_lag_seconds_count": 1,
        "salt_errors_total": 1,
        "config_jobs": 2,
        "config_problems": 0,
        "store_ok": 1,
        "store_bytes{ledger}": HEALTH.ledger_bytes,
        "build_info{1.0}": 1,
        "wrappers_connected": 2,
    }
    assert figures["store_commit_seconds_sum"] == pytest.approx(0.02 * len(STORY))


async def test_a_store_that_cannot_be_read_is_a_figure_too() -> None:
    async def lost() -> StoreHealth:
        raise StoreError("gone")

    assert (await Figures.of(Metrics(Scene().board, lost)))["store_ok"] == 0


async def test_every_name_says_its_unit() -> None:
    """Counters end in _total, times are seconds, sizes are bytes; all begin with our name but the process' own."""
    families = text_string_to_metric_families((await metrics_of(Scene().board).scrape()).decode())
    for family in families:
        assert family.name.startswith(("saltpeter_", "process_"))
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
