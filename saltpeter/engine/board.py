"""The one place where state changes. `post` never awaits, so nobody ever sees half a change."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import attrs
import trio

from saltpeter.domain.events import Event, ExecutionId
from saltpeter.domain.state import State, apply


class Shown(Protocol):
    """A board as those see it who only read."""

    @property
    def state(self) -> State: ...

    async def newer_than(self, serial: int) -> State:
        """The state, as soon as its serial is above `serial`."""


@attrs.define
class Board:
    """The state that people see, and a way to wait for it to move on.

    The state's parts are mutable behind `post`, so a change costs what it changes; readers take what
    they need before their next await, and skip to the newest state when they were slow.
    """

    state: State
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def post(self, event: Event) -> None:
        apply(self.state, event)
        self._changed.set()
        self._changed = trio.Event()

    def beat(self, execution: ExecutionId, at: datetime, rss: int | None = None, cpu_s: float | None = None) -> None:
        """A sign of life, with what the command uses: no event, nobody is woken."""
        run = self.state.runs.get(execution.run)
        if run is not None and execution.machine in run.executions:
            known = run.executions[execution.machine]
            known.last_heartbeat, known.rss, known.cpu_s = at, rss, cpu_s

    async def newer_than(self, serial: int) -> State:
        """The state, as soon as its serial is above `serial`."""
        while self.state.serial <= serial:
            await self._changed.wait()
        return self.state
