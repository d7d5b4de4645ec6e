"""A time limit that stands still while the command is paused. Times are seconds of the monotonic clock."""

from __future__ import annotations

from math import inf


class Timer:
    def __init__(self, limit_s: float) -> None:
        """`limit_s` may be inf."""
        self.due_at = inf
        self._left_s = limit_s
        self._paused = False

    @property
    def paused(self) -> bool:
        return self._paused

    def start(self, now: float) -> None:
        self.due_at = now + self._left_s

    def pause(self, now: float) -> None:
        if not self._paused:
            self._paused = True
            self._left_s = self.due_at - now
            self.due_at = inf

    def resume(self, now: float) -> None:
        if self._paused:
            self._paused = False
            self.start(now)

    def due(self, now: float) -> bool:
        return now >= self.due_at
