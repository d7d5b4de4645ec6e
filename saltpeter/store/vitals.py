"""How a writer fares: what it failed at, and how long its commits take. No IO, no clock."""

from __future__ import annotations

from collections import deque
from datetime import datetime

import attrs

from saltpeter.engine.storage import Writing

REMEMBERED = 512  # commits


@attrs.define
class Vitals:
    _failing_since: datetime | None = attrs.field(default=None, init=False)
    _why: str = attrs.field(default="", init=False)
    _commits: int = attrs.field(default=0, init=False)
    _latest_s: deque[float] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED), init=False)

    @property
    def failing(self) -> bool:
        return self._failing_since is not None

    def committed(self, took_s: float) -> None:
        self._failing_since, self._why = None, ""
        self._commits += 1
        self._latest_s.append(took_s)

    def failed(self, why: str, at: datetime) -> None:
        self._failing_since, self._why = self._failing_since or at, why

    def writing(self, waiting: int) -> Writing:
        ordered = sorted(self._latest_s) or [0.0]
        return Writing(
            failing_since=self._failing_since,
            why=self._why,
            waiting=waiting,
            commits=self._commits,
            median_s=ordered[len(ordered) // 2],
            p99_s=ordered[len(ordered) * 99 // 100],
            longest_s=ordered[-1],
        )
