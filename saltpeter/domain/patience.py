"""How long a silent machine is waited for, and how often it is asked. No clock: the time is passed in."""

from __future__ import annotations

from collections.abc import Collection

import attrs

_FEWEST_LOOKS = 3  # within the time that a machine has to respond
_RAREST_S = 60.0  # a machine that lives but has nothing to say is asked this often in the long run


@attrs.define
class Patience:
    """Gives a machine up when it has left a question (the launch is the first) unanswered for `within_s`.

    All times are seconds of one clock that never steps.
    """

    within_s: float
    _unanswered_since: dict[str, float] = attrs.field(factory=dict, init=False)
    _pause_s: dict[str, float] = attrs.field(factory=dict, init=False)  # until the next question, when it answers
    _ask_at: dict[str, float] = attrs.field(factory=dict, init=False)

    @property
    def look_every_s(self) -> float:
        return self.within_s / _FEWEST_LOOKS

    def asked(self, machines: Collection[str], at: float) -> None:
        """A question went out to `machines`, or what counts as one."""
        for machine in machines:
            self._unanswered_since.setdefault(machine, at)

    def heard(self, machine: str, at: float) -> None:
        """It lives; each answer makes the next question rarer."""
        self._unanswered_since.pop(machine, None)
        pause_s = self._pause_s.get(machine, self.look_every_s)
        self._ask_at[machine] = at + pause_s
        self._pause_s[machine] = min(pause_s * 2, max(_RAREST_S, self.within_s))

    def knows(self, machine: str) -> bool:
        """It has been heard at least once."""
        return machine in self._pause_s

    def excuse(self, at: float) -> None:
        """Nobody could have answered until now: the way to the machines was closed."""
        self._unanswered_since = dict.fromkeys(self._unanswered_since, at)

    def gone(self, machines: Collection[str], at: float) -> list[str]:
        """Those of the silent `machines` that are given up."""
        return [m for m in machines if m in self._unanswered_since and self._unanswered_since[m] + self.within_s <= at]

    def to_ask(self, machines: Collection[str], at: float) -> list[str]:
        """Those of the silent `machines` that a question is due for."""
        return [m for m in machines if m in self._unanswered_since or self._ask_at.get(m, at) <= at]
