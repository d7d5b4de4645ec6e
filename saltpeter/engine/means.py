"""What every run works with, gathered by the daemon."""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from saltpeter.domain.job import Job, Maintenance, Settings, TargetType
from saltpeter.engine.departures import Departures
from saltpeter.engine.launcher import Launcher
from saltpeter.engine.leases import Leases
from saltpeter.engine.record import Recorder
from saltpeter.engine.roster import Executions
from saltpeter.engine.secrets import ReadSecrets, read_secrets
from saltpeter.engine.tokens import Tokens


@attrs.frozen(kw_only=True)
class Means:
    """What every run works with."""

    record: Recorder
    executions: Executions
    departures: Departures
    leases: Leases
    launchers: Mapping[str, Launcher]  # by executor: salt, local
    now: Callable[[], datetime]
    settings: Callable[[], Settings]
    machines_url: str  # where the wrappers find the daemon
    chance: random.Random
    tokens: Tokens
    allow_legacy: bool = False  # wrappers of 0.9.x show no token
    read_secrets: ReadSecrets = read_secrets

    def launcher(self, job: Job) -> Launcher:
        """The way to the job's machines."""
        return self.launchers["local" if job.target.type is TargetType.LOCAL else self.settings().executor]

    def machine_keys(self, job: Job) -> str | None:
        """Where the keys lie by which the job's machines prove themselves; None where they need not, as this host."""
        through_salt = job.target.type is not TargetType.LOCAL and self.settings().executor == "salt"
        return self.settings().machine_keys if through_salt else None

    def maintenance(self) -> Maintenance:
        """What is under maintenance now."""
        return self.record.board.state.maintenance(self.now())

    def may_speak(self, token: str, shown: str) -> bool:
        """Whether a wrapper that shows `shown` may speak for a run of `token`. In constant time."""
        return hmac.compare_digest(token.encode(), shown.encode()) or (self.allow_legacy and not shown)
