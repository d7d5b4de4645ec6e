"""What can go wrong, by whose fault it is."""

from __future__ import annotations

import attrs


class SaltpeterError(Exception):
    """Base of every error that saltpeter raises on purpose."""


@attrs.frozen
class Problem:
    """Something wrong in a file of conf.d. `key` is "" when it concerns the whole job or file."""

    path: str
    line: int  # counted from 1; 0 when no line is to blame
    job: str
    key: str
    text: str
    fatal: bool = True  # False: a warning, the job is in force all the same

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        what = ".".join(part for part in (self.job, self.key) if part)
        return f"{where}: {'' if self.fatal else 'warning: '}{what + ': ' if what else ''}{self.text}"


class ConfigError(SaltpeterError):
    """A directory of jobs cannot be used at all (it is missing, or may not be read)."""


class LaunchError(SaltpeterError):
    """A command could not be handed to the machines, for a reason that trying again will not change."""


class LaunchUnknown(SaltpeterError):
    """Nobody can say whether the machines got it: ask again, with the same ticket only."""


class SecretError(SaltpeterError):
    """A secret could not be read. The text names the variable and its source, never the value."""


class StoreError(SaltpeterError):
    """The store could not make something durable."""


class StoreRefused(StoreError):
    """The store will not write that, however often it is asked."""


class SlotTaken(StoreRefused):
    """The ledger already holds a run of this job for this slot."""


class RunTaken(StoreRefused):
    """The ledger already holds a run of this id, for another slot or by hand."""


class CommandRefused(SaltpeterError):
    """A request of a person that cannot be carried out. `code` is stable; the text helps."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
