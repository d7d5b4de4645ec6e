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
    ExecutionId,
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
from saltpeter.engine.record import Observers, Recorder
from saltpeter.engine.storage import StoreHealth
from saltpeter.errors import StoreError
from tests.endpoints.exposition import faults
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
    recorder = Recorder(MemoryStore(commit_s=0.02), scene.board, Observers((metrics,)), metrics.committed)
    for event in STORY:
        await recorder.once(event)
    recorder.observer.output(5)
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


async def test_the_figures_keep_to_prometheus_rules(autojump_clock: MockClock) -> None:
    scene = Scene()
    metrics = metrics_of(scene.board)
    recorder = Recorder(MemoryStore(commit_s=0.02), scene.board, Observers((metrics,)), metrics.committed)
    for event in STORY:
        await recorder.once(event)
    metrics.version("1.0")
    assert faults((await metrics.scrape()).decode()) == []


async def test_however_much_there_is_the_series_are_as_many(autojump_clock: MockClock) -> None:
    """No label holds a job, a machine, a person or a code: those are without number."""
    scene = Scene()
    metrics = metrics_of(scene.board)
    before = len((await metrics.scrape()).splitlines())
    for number in range(200):
        run = f"job{number}_{number}"
        execution = ExecutionId(run, f"m{number}")
        for event in (
            RunStarted(run=run, job=f"job{number}", slot=NOON, by=f"token:{number}", token="t", at=NOON),
            Targeted(run=run, machines=(execution.machine,), at=NOON),
            KillRequested(run=run, machines=(execution.machine,), by=f"token:{number}", at=NOON),
            Ended(execution=execution, outcome=attrs.evolve(FINE, code=number), at=NOON),
            RunEnded(run=run, verdict=Verdict.FAILED, at=NOON),
            SlotPassed(job=f"job{number}", slot=NOON, reason=Reason.OVERLAP, text=f"because {number}", at=NOON),
        ):
            scene.post(event)
            metrics.post(event)
    assert len((await metrics.scrape()).splitlines()) == before


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# HELP saltpeter_a_ms A\n# TYPE saltpeter_a_ms gauge\nsaltpeter_a_ms 1\n", "is not in a base unit"),
        ("# HELP saltpeter_a A\n# TYPE saltpeter_a counter\nsaltpeter_a 1\n", "does not end in _total"),
        ("# HELP saltpeter_a_total A\n# TYPE saltpeter_a_total gauge\nsaltpeter_a_total 1\n", "ends like what it is"),
        ("# TYPE saltpeter_a gauge\nsaltpeter_a 1\n", "nobody says what it is"),
        ('# HELP saltpeter_a A\n# TYPE saltpeter_a gauge\nsaltpeter_a{job="x"} 1\n', "a label that nobody can use"),
        ("# HELP saltpeter_a A\n# TYPE saltpeter_a gauge\nsaltpeter_a 1\nsaltpeter_a 1\n", "is there 2 times"),
    ],
)
def test_a_figure_that_breaks_the_rules_is_named(text: str, fault: str) -> None:
    assert any(fault in each for each in faults(text))
