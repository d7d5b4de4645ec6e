"""What has changed, by name and serial: who knows the state up to a serial learns the rest at the price of the rest."""

from __future__ import annotations

import enum
from collections import OrderedDict
from itertools import takewhile
from typing import NamedTuple

import attrs

BOUND = 65_536


class Kind(enum.Enum):
    """What of the state a change is of, and so what is to be told again."""

    JOB = "job"  # its next slot, or how its newest run went
    DEFINITION = "definition"  # what conf.d says of a job
    RUN = "run"  # a run as a whole
    MACHINE = "machine"  # one machine's part of a run
    OUTPUT = "output"  # how much that part has written

    __hash__ = object.__hash__  # there is one of each; Enum's own looks its name up every time


class Change(NamedTuple):
    """`name` is that of a job, or of a run; `machine` is "" unless one machine's part is meant."""

    kind: Kind
    name: str
    machine: str = ""


@attrs.define
class Changes:
    """The latest changes, one for each thing that changed, the most recent last; at most `bound`.

    All that changed after the serial `complete_since` is here.
    """

    bound: int = BOUND
    complete_since: int = 0
    _latest: OrderedDict[Change, int] = attrs.field(factory=OrderedDict, init=False)

    def note(self, change: Change, serial: int) -> None:
        """Serials do not fall."""
        self._latest[change] = serial
        self._latest.move_to_end(change)
        while len(self._latest) > self.bound:
            _, self.complete_since = self._latest.popitem(last=False)

    def since(self, serial: int) -> list[Change] | None:
        """What changed after `serial`, the most recent first; None where not all of that is known any more."""
        if serial < self.complete_since:
            return None
        return [change for change, _ in takewhile(lambda each: each[1] > serial, reversed(self._latest.items()))]
