"""Answers to a job's slots reach the ledger in the order in which they were decided.

What the ledger knows of a job's slots is how far it came. A daemon that dies must therefore not leave a newer slot
answered and an older one not: the next daemon plans from the newest on.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import trio


@attrs.frozen(eq=False)
class Turn:
    """One answer's place in the order; whoever comes after it waits until it is ended."""

    _before: tuple[trio.Event, ...]
    _ended: trio.Event

    @property
    def has_come(self) -> bool:
        return all(earlier.is_set() for earlier in self._before)

    async def come(self) -> None:
        """Returns when every earlier answer about the same jobs is durable."""
        for earlier in self._before:
            await earlier.wait()

    def end(self) -> None:
        """The answer is durable, or there will be none."""
        self._ended.set()


@attrs.define(eq=False)
class Turns:
    _last: dict[str, trio.Event] = attrs.field(factory=dict, init=False)  # of each job

    def take(self, jobs: Iterable[str]) -> Turn:
        """The next turn of each of `jobs`."""
        names = frozenset(jobs)
        before = tuple(self._last[name] for name in names if name in self._last)
        ended = trio.Event()
        self._last.update(dict.fromkeys(names, ended))
        return Turn(before, ended)
