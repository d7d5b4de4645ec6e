"""How prompt the daemon has been in the last hour. It costs a comparison each time, and sixty numbers."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

import attrs

from saltpeter.domain.events import LedgerEvent, RunStarted
from saltpeter.endpoints.records import Result
from saltpeter.engine.storage import StoreHealth

SPAN = timedelta(hours=1)
_MINUTE_S = 60


@attrs.define
class Worst:
    """The largest of the values of the last hour, to the minute, and how many they were."""

    _minutes: deque[list[float]] = attrs.field(factory=deque, init=False)  # [minute, largest, how many], oldest first

    def take(self, value: float, at: datetime) -> None:
        minute = at.timestamp() // _MINUTE_S
        if self._minutes and self._minutes[-1][0] >= minute:  # also where the clock was put back
            newest = self._minutes[-1]
            newest[1:] = [max(newest[1], value), newest[2] + 1]
            return
        self._minutes.append([minute, value, 1])
        while self._minutes[0][0] <= minute - SPAN.total_seconds() // _MINUTE_S:
            self._minutes.popleft()

    def since(self, at: datetime) -> tuple[float | None, int]:
        """The largest value in the hour before `at`, None without any; and how many there were."""
        recent = [each for each in self._minutes if each[0] > (at - SPAN).timestamp() // _MINUTE_S]
        return max((each[1] for each in recent), default=None), int(sum(each[2] for each in recent))


@attrs.define(eq=False)
class Pulse:
    """Implements `saltpeter.engine.record.Observer`. `began_at` is when the daemon did."""

    began_at: datetime | None = None
    _lateness_s: Worst = attrs.field(factory=Worst, init=False)
    _lag_s: Worst = attrs.field(factory=Worst, init=False)

    def post(self, event: LedgerEvent) -> None:
        if isinstance(event, RunStarted) and event.slot is not None:
            self._lateness_s.take(max((event.at - event.slot).total_seconds(), 0.0), event.at)

    def output(self, size: int) -> None:
        pass  # says nothing of promptness

    def lagged(self, seconds: float, at: datetime) -> None:
        self._lag_s.take(seconds, at)

    def told(self, now: datetime) -> Result:
        """Seconds, of the last hour."""
        late_s, slots = self._lateness_s.since(now)
        return {"since": self.began_at, "slots": slots, "late": late_s, "lag": self._lag_s.since(now)[0] or 0.0}


def of_store(health: StoreHealth) -> Result:
    return {
        "ok": health.ok,
        "ledger_bytes": health.ledger_bytes,
        "output_bytes": health.output_bytes,
        "free_bytes": health.free_bytes,
        "commit_p99": health.ledger.p99_s,
        "set_aside": len(health.set_aside),
    }
