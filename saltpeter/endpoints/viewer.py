"""What one client of the control socket has been told, and what it is due next. No IO.

Nothing queues up for a client: what it is due is worked out from the newest state when it is ready for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any

import attrs

from saltpeter.domain.state import State
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
    wake_at: float = attrs.field(default=inf, init=False)
    _config_serial: int | None = attrs.field(default=None, init=False)
    _status: _Told = attrs.field(factory=_Told, init=False)
    _status_config: int | None = attrs.field(default=None, init=False)  # whose jobs the last status told of
    _running: dict[str, Any] | None = attrs.field(default=None, init=False)
    _last_state: dict[str, Any] = attrs.field(factory=dict, init=False)
    _details: dict[str, _Told] = attrs.field(factory=dict, init=False)

    @property
    def subscribed(self) -> Iterable[str]:
        return self._details.keys()

    def subscribe(self, job: str) -> None:
        """Begin to tell of `job` in detail; for one that was subscribed, tell it all again."""
        self._details[job] = _Told()

    def unsubscribe(self, job: str) -> None:
        self._details.pop(job, None)

    def due(self, state: State, at: float) -> list[dict[str, Any]]:
        """The messages to send now, in this order."""
        self.wake_at = inf
        messages = []
        if self._config_serial != state.config_serial:
            self._config_serial = state.config_serial
            messages.append({"type": "config", "config": views.config(state), "sp_version": self._sp_version})
        if self._may_tell(self._status, at, self._status_is_stale(state)):
            messages += self._changed_status(state, at)
        for job, told in self._details.items():
            if self._may_tell(told, at, told.serial < state.touched.get(job, 0)):
                self._details[job] = _Told(state.serial, at + REPEAT_S)
                data = views.details(state, job, views.newest_run(state, job))
                messages.append({"type": "details", "cron": job, "data": data})
        return messages

    def _may_tell(self, told: _Told, at: float, changed: bool) -> bool:
        """Whether a change is due already; if not, `wake_at` will say when."""
        if changed and at < told.again_at:
            self.wake_at = min(self.wake_at, told.again_at)
        return changed and at >= told.again_at

    def _status_is_stale(self, state: State) -> bool:
        return self._status_config != state.config_serial or bool(state.touched_since(self._status.serial))

    def _changed_status(self, state: State, at: float) -> list[dict[str, Any]]:
        changed, running = self._changed_last_state(state), views.running(state)
        self._status.serial, self._status_config = state.serial, state.config_serial
        if not changed and running == self._running:
            return []
        self._status.again_at = at + REPEAT_S
        self._running = running
        return [{"type": "status", "running": running, "last_state": changed, "sp_version": self._sp_version}]

    def _changed_last_state(self, state: State) -> dict[str, Any]:
        newest = views.newest_runs(state)
        jobs: Iterable[str] = state.touched_since(self._status.serial)
        if self._status_config != state.config_serial:
            jobs = {**state.config.jobs, **newest}
            self._last_state = {job: entry for job, entry in self._last_state.items() if job in jobs}
        entries = {job: views.last_state(state, job, newest.get(job)) for job in jobs}
        changed = {job: entry for job, entry in entries.items() if self._last_state.get(job) != entry}
        self._last_state.update(changed)
        return changed
