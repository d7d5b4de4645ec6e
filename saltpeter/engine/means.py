"""What every run works with, gathered by the daemon."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from saltpeter.domain.job import Job, Settings, TargetType
from saltpeter.engine.launcher import Launcher
from saltpeter.engine.record import Recorder
from saltpeter.engine.roster import Executions


@attrs.frozen(kw_only=True)
class Means:
    """What every run works with."""

    record: Recorder
    executions: Executions
    launchers: Mapping[str, Launcher]  # by executor: salt, local
    now: Callable[[], datetime]
    settings: Callable[[], Settings]
    machines_url: str  # where the wrappers find the daemon
    chance: random.Random

    def launcher(self, job: Job) -> Launcher:
        return self.launchers["local" if job.target.type is TargetType.LOCAL else self.settings().executor]
