"""conf.d, from texts to what is in force. Text in, values out: no file is touched here.

What is bad is reported with its place and leaves everything else as it was: a bad job its last good version,
a file that cannot be read its last good content, a bad setting its last good value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, tzinfo
from types import MappingProxyType

import attrs

from saltpeter.domain.document import Document, parse_file, unreadable
from saltpeter.domain.job import Config, Job, Settings
from saltpeter.domain.jobkeys import Surroundings, build_job
from saltpeter.domain.schedule import DayMatch
from saltpeter.domain.settingkeys import NEEDS_RESTART, changed_for_restart, merge_maintenance, merge_settings
from saltpeter.errors import Problem

__all__ = [
    "NEEDS_RESTART",
    "Assembly",
    "Document",
    "Host",
    "assemble",
    "changed_for_restart",
    "notes",
    "parse_file",
    "unreadable",
]


_UTC = ("UTC", "UCT", "Universal", "Zulu")  # by its names, which may have Etc/ in front


@attrs.frozen(kw_only=True)
class Host:
    """What holds on the daemon's host where no file says otherwise."""

    statedir: str
    logdir: str
    zone: tzinfo


@attrs.frozen
class Definition:
    """What a file says about one job: `job` is None where it is bad."""

    name: str
    line: int
    job: Job | None
    problems: tuple[Problem, ...]


@attrs.frozen(kw_only=True)
class Assembly:
    """A configuration, with what the next one takes over from it."""

    config: Config
    sources: tuple[Document, ...]  # what it was made from, sorted by path
    documents: Mapping[str, Document]  # by path: the last that could be read
    definitions: Mapping[str, tuple[Definition, ...]]  # by path


def assemble(documents: Iterable[Document], before: Assembly | None, host: Host, now: datetime) -> Assembly:
    """Make the configuration of all `documents`. Raises nothing: see its problems.

    Where two files disagree, the first by path counts. What comes from a document that is still the same
    object is taken over from `before`, not made again.
    """
    read = sorted(documents, key=lambda document: document.path)
    known = before.documents if before else {}
    good = {each.path: each if each.entries is not None else known.get(each.path, each) for each in read}
    last = before.config if before else None
    defaults = Settings(statedir=host.statedir, logdir=host.logdir)
    settings, settings_problems = merge_settings(good.values(), last.settings if last else None, defaults)
    maintenance, maintenance_problems = merge_maintenance(good.values(), last.maintenance if last else None)
    around = Surroundings(settings=settings, host_zone=host.zone, now=now)
    definitions = {path: _definitions(document, before, around) for path, document in good.items()}
    jobs, job_problems = _in_force(definitions, last.jobs if last else {})
    file_problems = [problem for document in read for problem in document.problems]
    problems = [*file_problems, *settings_problems, *maintenance_problems, *job_problems]
    config = Config(
        jobs=MappingProxyType(jobs),
        settings=settings,
        maintenance=maintenance,
        problems=tuple(sorted(problems, key=lambda problem: (problem.path, problem.line))),
    )
    return Assembly(config=config, sources=tuple(read), documents=good, definitions=definitions)


def _definitions(document: Document, before: Assembly | None, around: Surroundings) -> tuple[Definition, ...]:
    if before is not None and before.documents.get(document.path) is document:
        old, new = before.config.settings, around.settings
        if (old.timezone, old.wrapper) == (new.timezone, new.wrapper):  # all that jobs take from the settings
            return before.definitions[document.path]
    return tuple(
        Definition(name.text, name.line, *build_job(document, name, node, around)) for name, node in document.jobs()
    )


def _in_force(
    definitions: Mapping[str, tuple[Definition, ...]], last: Mapping[str, Job]
) -> tuple[dict[str, Job], list[Problem]]:
    """The jobs by name. Of several with one name the first counts; a bad one leaves its last good version."""
    jobs: dict[str, Job] = {}
    problems: list[Problem] = []
    places: dict[str, str] = {}
    for path, each in ((path, each) for path, those in definitions.items() for each in those):
        problems += each.problems
        if each.name in places:
            text = f"there is a job of this name in {places[each.name]}, which counts"
            problems.append(Problem(path, each.line, each.name, "", text))
            continue
        places[each.name] = f"{path}:{each.line}"
        job = each.job or last.get(each.name)
        if job is not None:
            jobs[each.name] = job
    return jobs, problems


def notes(config: Config) -> Iterator[Problem]:
    """Where a job of `config` means something else here than in the saltpeter before 1.0, which knew UTC only."""
    for job in config.jobs.values():
        zoned = config.settings.timezone or job.written.keys() & {"timezone", "utc"}
        if not zoned and str(job.schedule.zone).removeprefix("Etc/") not in _UTC:
            text = f"its times are of the host's zone, {job.schedule.zone}; the older saltpeter always used UTC"
            yield Problem(job.path, job.line, job.name, "timezone", text, fatal=False)
        both = job.schedule.fields.restricts_both_days and "day_match" not in job.written
        if both and job.schedule.day_match is DayMatch.ANY:
            text = "either dom or dow is enough; the older saltpeter required both, which is day_match: all"
            yield Problem(job.path, job.line, job.name, "day_match", text, fatal=False)
