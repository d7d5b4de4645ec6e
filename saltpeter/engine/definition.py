"""The job that a run belongs to, even where conf.d has it no more."""

from __future__ import annotations

from saltpeter.domain.job import Config, Job, Target
from saltpeter.domain.schedule import Fields, Schedule

_NEVER = Schedule(Fields(year="*"))


def definition(config: Config, job: str) -> Job:
    """The job as conf.d has it now; one that is gone from there is followed, and killed, with the defaults."""
    return config.jobs.get(job) or Job(
        name=job, group="", path="", line=0, schedule=_NEVER, command="", target=Target(""), enabled=False
    )
