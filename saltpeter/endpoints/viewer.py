"""What one client of the control socket that speaks protocol 1 has been told, and what it is due next. No IO.

Nothing queues up for a client: what it is due is worked out from the newest state when it is ready for it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from math import inf
from typing import Any

import attrs

from saltpeter.domain.state import RunState, State
from saltpeter.endpoints import control_wire as wire
from saltpeter.endpoints import views

REPEAT_S = 1.0  # a status, and the details of one job, come at most this often


@attrs.define
class _Told:
    """When a job's details were last told: the state's serial, and the time from which to tell them again."""

    serial: int = -1
    again_at: float = -inf


@attrs.define(eq=False)
class Viewer:
    """One client's view. Times are those of trio's clock, in seconds.

    `wake_at` is when something that was held back becomes due; inf when nothing is.
    """

    _sp_version: str
    _living: views.Running = attrs.field(factory=views.Running)
    wake_at: float = attrs.field(default=inf, init=False)
    _config: tuple[object, ...] | None = attrs.field(default=None, init=False)  # what the last config told of
    _status: _Told = attrs.field(factory=_Told, init=False)
    _status_config: int | None = attrs.field(default=None, init=False)  # whose jobs the last status told of
    _store: str | None = attrs.field(default=None, init=False)
    _running: dict[str, Any] | None = attrs.field(default=None, init=False)
    _last_state: dict[str, Any] = attrs.field(factory=dict, init=False)
    _details: dict[str, _Told] = attrs.field(factory=dict, init=False)
    _pinned: dict[str, RunState] = attrs.field(factory=dict, init=False)  # runs that were asked for by their ids

    @property
    def subscribed(self) -> Collection[str]:
        return self._details.keys()

    def subscribe(self, job: str, run: RunState | None = None, _known: int | None = None) -> None:
        """Begin to tell of `job` in detail: of `run`, or of its newest run. What is known is told again, whole."""
        self._details[job] = _Told()
        self._pinned.pop(job, None)
        if run is not None:
            self._pinned[job] = run

    def unsubscribe(self, job: str) -> None:
        self._details.pop(job, None)
        self._pinned.pop(job, None)

    def run_of(self, state: State, job: str) -> RunState | None:
        """The run of `job` that the client sees."""
        pinned = self._pinned.get(job)
        return views.newest_run(state, job) if pinned is None else state.run(pinned.id) or pinned

    def due(self, state: State, at: float, now: datetime) -> list[str]:
        """The messages to send now, in this order. `at` is trio's time and `now` the wall's."""
        return [wire.pack(message) for message in self._due(state, at, now)]

    def _due(self, state: State, at: float, now: datetime) -> list[dict[str, Any]]:
        self.wake_at = inf
        messages = self._changed_config(state, at, now)
        if self._may_tell(self._status, at, self._status_is_stale(state)):
            messages += self._changed_status(state, at)
        for job, told in self._details.items():
            if self._may_tell(told, at, told.serial < state.touched.get(job, 0)):
                self._details[job] = _Told(state.serial, at + REPEAT_S)
                data = views.details(state, job, self.run_of(state, job))
                messages.append({"type": "details", "cron": job, "data": data})
        return messages

    def _may_tell(self, told: _Told, at: float, changed: bool) -> bool:
        """Whether a change is due already; if not, `wake_at` will say when."""
        if changed and at < told.again_at:
            self.wake_at = min(self.wake_at, told.again_at)
        return changed and at >= told.again_at

    def _changed_config(self, state: State, at: float, now: datetime) -> list[dict[str, Any]]:
        ends = [hold.until for hold in state.holds.values() if hold.until is not None and hold.counts(now)]
        if ends:
            self.wake_at = at + (min(ends) - now).total_seconds()  # then that machine is not held any more
        told = (state.config_serial, state.holds_serial, state.maintenance(now))
        if told == self._config:
            return []
        self._config = told
        return [{"type": "config", "config": views.config(state, now), "sp_version": self._sp_version}]

    def _status_is_stale(self, state: State) -> bool:
        newer = state.store_serial > self._status.serial or bool(state.touched_since(self._status.serial))
        return newer or self._status_config != state.config_serial

    def _changed_status(self, state: State, at: float) -> list[dict[str, Any]]:
        changed, running = self._changed_last_state(state), self._living.of(state)
        self._status.serial, self._status_config = state.serial, state.config_serial
        if not changed and running == self._running and state.store_problem == self._store:
            return []
        self._status.again_at = at + REPEAT_S
        self._running, self._store = running, state.store_problem
        status = {"type": "status", "running": running, "last_state": changed, "sp_version": self._sp_version}
        return [{**status, **views.store_problem(state)}]

    def _changed_last_state(self, state: State) -> dict[str, Any]:
        if self._status_config == state.config_serial:
            entries = views.last_states(state, state.touched_since(self._status.serial))
        else:
            entries = views.last_states(state)
            self._last_state = {job: entry for job, entry in self._last_state.items() if job in entries}
        changed = {job: entry for job, entry in entries.items() if self._last_state.get(job) != entry}
        self._last_state.update(changed)
        return changed
