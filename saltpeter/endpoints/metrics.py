"""What Prometheus is told: counted as it happens, never by looking through what there is."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable

import attrs
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from saltpeter.domain.events import (
    CameLate,
    Confirmed,
    Ended,
    KillRequested,
    LedgerEvent,
    Reason,
    RunEnded,
    RunStarted,
    SlotPassed,
)
from saltpeter.domain.outcome import End
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.board import Board
from saltpeter.engine.latecomers import ORPHAN
from saltpeter.engine.storage import StoreHealth
from saltpeter.errors import StoreError

_LATE_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600)
_PHASE1_S = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 300)
_COMMIT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_LAG_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5)
_STARTERS = {"schedule": "schedule", ORPHAN: ORPHAN}  # everybody else is a person

# a second series beside each counter, that nobody asks for
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations


def _of_each(counter: Counter, kinds: type[enum.Enum]) -> Counter:
    """Begin with a nought for each kind: what has never happened can be told from what is not counted."""
    for kind in kinds:
        counter.labels(kind.value)
    return counter


@attrs.define(eq=False)
class Metrics:
    """The figures of one daemon, in a registry of their own. Implements `saltpeter.engine.record.Observer`."""

    _board: Board
    _health: Callable[[], Awaitable[StoreHealth]]
    registry: CollectorRegistry = attrs.field(factory=CollectorRegistry, init=False)
    _fires: Counter = attrs.field(init=False)
    _lateness: Histogram = attrs.field(init=False)
    _passed: Counter = attrs.field(init=False)
    _runs: Counter = attrs.field(init=False)
    _ended: Counter = attrs.field(init=False)
    _late: Counter = attrs.field(init=False)
    _kills: Counter = attrs.field(init=False)
    _phase1: Histogram = attrs.field(init=False)
    _output: Counter = attrs.field(init=False)
    _commits: Histogram = attrs.field(init=False)
    _lag: Histogram = attrs.field(init=False)
    _salt_errors: Counter = attrs.field(init=False)
    _store_bytes: Gauge = attrs.field(init=False)
    _store_ok: Gauge = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._make_counters()
        self._make_histograms()
        self._make_gauges()
        ProcessCollector(registry=self.registry)

    def _make_counters(self) -> None:
        self._fires = self._counter("saltpeter_fires", "Runs started, by whom", "by")
        for by in (*_STARTERS.values(), "person"):
            self._fires.labels(by)
        passed = self._counter("saltpeter_slots_passed", "Decisions to let slots pass", "reason")
        self._passed = _of_each(passed, Reason)
        self._runs = _of_each(self._counter("saltpeter_runs", "Runs ended, by verdict", "verdict"), Verdict)
        ended = self._counter("saltpeter_executions_ended", "Executions ended, by outcome", "outcome")
        self._ended = _of_each(ended, End)
        self._late = self._counter("saltpeter_executions_late", "Machines that reported after they had been given up")
        self._kills = self._counter("saltpeter_kills", "Kills that people asked for")
        self._output = self._counter("saltpeter_output_bytes", "Bytes of output received")
        self._salt_errors = self._counter("saltpeter_salt_errors", "Calls that Salt failed or did not take")

    def _make_histograms(self) -> None:
        self._lateness = self._histogram("saltpeter_lateness_seconds", "From a slot to the start of its run", _LATE_S)
        self._phase1 = self._histogram("saltpeter_phase1_seconds", "From a launch to its confirmation", _PHASE1_S)
        self._commits = self._histogram("saltpeter_store_commit_seconds", "To make facts durable", _COMMIT_S)
        self._lag = self._histogram("saltpeter_event_loop_lag_seconds", "Turns of the event loop, from 1 ms on", _LAG_S)

    def _make_gauges(self) -> None:
        board = self._board
        self.gauge("saltpeter_runs_running", "Runs that have not ended", lambda: len(board.state.runs))
        self.gauge(
            "saltpeter_executions_running",
            "Executions that have not ended",
            lambda: sum(run.open for run in board.state.runs.values()),
        )
        self.gauge("saltpeter_config_jobs", "Jobs in force", lambda: len(board.state.config.jobs))
        self.gauge("saltpeter_config_problems", "Problems in conf.d", lambda: len(board.state.config.problems))
        self._store_bytes = Gauge("saltpeter_store_bytes", "Size of the store", ["part"], registry=self.registry)
        self._store_ok = Gauge("saltpeter_store_ok", "1 while the store can be written", registry=self.registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is wanted."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def version(self, version: str) -> None:
        Info("saltpeter_build", "The daemon", registry=self.registry).info({"version": version})

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    # --- what happens ---------------------------------------------------------------------------

    def post(self, event: LedgerEvent) -> None:
        match event:
            case RunStarted():
                self._fires.labels(_STARTERS.get(event.by, "person")).inc()
                if event.slot is not None:
                    self._lateness.observe(max((event.at - event.slot).total_seconds(), 0))
            case SlotPassed():
                self._passed.labels(event.reason.value).inc()
            case Confirmed():
                self._confirmed(event)
            case Ended():
                self._ended.labels(event.outcome.end.value).inc()
            case CameLate():
                self._late.inc()
            case KillRequested():
                self._kills.inc()
            case RunEnded():
                self._runs.labels(event.verdict.value).inc()
            case _:
                pass  # no figure is of it

    def output(self, size: int) -> None:
        self._output.inc(size)

    def committed(self, seconds: float) -> None:
        self._commits.observe(seconds)

    def lagged(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def salt_failed(self) -> None:
        self._salt_errors.inc()

    def _confirmed(self, event: Confirmed) -> None:
        run = self._board.state.run(event.execution.run)
        known = run.executions.get(event.execution.machine) if run else None
        if known is not None and known.launched_at is not None:
            self._phase1.observe(max((event.at - known.launched_at).total_seconds(), 0))

    # --- what is asked --------------------------------------------------------------------------

    async def scrape(self) -> bytes:
        """All figures, in Prometheus' text format."""
        try:
            health = await self._health()
        except StoreError:
            self._store_ok.set(0)
        else:
            self._store_ok.set(health.ok)
            self._store_bytes.labels("ledger").set(health.ledger_bytes)
            self._store_bytes.labels("output").set(health.output_bytes)
        return generate_latest(self.registry)
