"""What a job's keys mean together: from what is written to the job in force."""

from __future__ import annotations

import math
from datetime import datetime, timezone, tzinfo
from types import MappingProxyType
from typing import Any

import attrs

from saltpeter.domain import values
from saltpeter.domain.document import Document
from saltpeter.domain.job import Job, Overlap, Retry, Settings, Share, Target, TargetType, WrapperSettings
from saltpeter.domain.schedule import Fields, Schedule, ScheduleError
from saltpeter.domain.values import Secrets
from saltpeter.domain.written import Fault, Keys, WrittenJob, read
from saltpeter.domain.yamltext import Node, Scalar, Table
from saltpeter.errors import Problem

LONGEST_NAME = 200  # characters of a job's name
MOST_RETRIES = 100
OLD_ALLOW = "i know what i am doing!"
THIS_HOST = "*"  # what a job of target_type local that names no targets runs on

_CRON_KEYS = ("sec", "min", "hour", "dom", "mon", "dow", "year")


@attrs.frozen(kw_only=True)
class Surroundings:
    """What a job's meaning depends on besides its own keys."""

    settings: Settings
    host_zone: tzinfo
    now: datetime


def build_job(
    document: Document, name: Scalar, node: Node, around: Surroundings
) -> tuple[Job | None, tuple[Problem, ...]]:
    """The job that `node` says, or None where it is bad; and all that is wrong with it, not just the first."""
    builder = _Builder(around=around, keys=read(WrittenJob, node), line=name.line)
    job = builder.build(document, name.text, node)
    return job, tuple(fault.problem(document.path, name.text) for fault in builder.faults)


@attrs.define(kw_only=True)
class _Builder:
    """Collects what is wrong while a job is put together."""

    around: Surroundings
    keys: Keys
    line: int  # of the job's name
    faults: list[Fault] = attrs.field(factory=list, init=False)

    def build(self, document: Document, name: str, node: Node) -> Job | None:
        self.faults += self.keys.faults
        if name_fault := _fault_in_name(name):
            self._say("", name_fault)
        if not isinstance(node, Table):
            return None
        if "command" not in {*self.keys.values, *self.keys.bad}:
            self._say("command", "is missing")
        written = WrittenJob(**{"command": values.Text(""), **self.keys.values})
        schedule, target, optional = self._schedule(written), self._target(written), self._optional(written)
        if schedule is None or target is None or any(fault.fatal for fault in self.faults):
            return None
        return Job(
            name=name,
            group=document.group,
            path=document.path,
            line=self.line,
            schedule=schedule,
            command=written.command,
            target=target,
            wrapper=_wrapper(written, self.around.settings.wrapper),
            written=MappingProxyType(node.plain),
            **optional,
        )

    def _say(self, key: str, text: str, *, fatal: bool = True) -> None:
        self.faults.append(Fault(key, self.keys.lines.get(key, self.line), text, fatal))

    def _schedule(self, written: WrittenJob) -> Schedule | None:
        if self.keys.bad.intersection(("schedule", *_CRON_KEYS)):
            return None
        zone = self._zone(written)
        fields = self._fields(written)
        if fields is None:
            return None
        given = _given(day_match=written.day_match, misfire=written.misfire, misfire_grace_s=written.misfire_grace)
        try:
            schedule = Schedule(fields, zone or timezone.utc, **given)
        except ScheduleError as exc:
            self._blame(exc, written)
            return None
        if fields.year != "*" and schedule.next_after(self.around.now) is None:
            self._say("schedule" if written.schedule else "year", f"{fields} is over: no date to come is like it")
        return schedule if zone is not None else None

    def _fields(self, written: WrittenJob) -> Fields | None:
        cron = {key: value for key in _CRON_KEYS if (value := getattr(written, key)) is not None}
        if written.schedule is None:
            for key in ("min", "hour"):
                if key not in cron:
                    self._say(key, "is missing (or a schedule)")
            return Fields(**cron) if {"min", "hour"} <= cron.keys() else None
        for key in cron:
            self._say(key, "cannot stand beside schedule, which says it all")
        try:
            return Fields.parse(written.schedule)
        except ScheduleError as exc:
            self._say("schedule", exc.problem)
            return None

    def _blame(self, exc: ScheduleError, written: WrittenJob) -> None:
        if written.schedule is not None:
            self._say("schedule", exc.problem if exc.field == "schedule" else f"{exc.field}: {exc.problem}")
        else:
            self._say("" if exc.field == "schedule" else exc.field, exc.problem)

    def _zone(self, written: WrittenJob) -> tzinfo | None:
        if self.keys.bad & {"timezone", "utc"}:
            return None
        name: str | None = written.timezone
        if written.utc:
            if name is not None and name != "UTC":
                self._say("utc", f"contradicts timezone: {name}")
            name = "UTC"
        name = name or self.around.settings.timezone
        try:
            return values.zone(name) if name else self.around.host_zone
        except values.Wrong as exc:
            self._say("timezone", exc.problem)
            return None

    def _target(self, written: WrittenJob) -> Target | None:
        if self.keys.bad & {"targets", "target_type"}:
            return None
        kind, targets = written.target_type, written.targets
        if targets is None:
            if kind is TargetType.LOCAL:
                return Target(THIS_HOST, kind)
            self._say("targets", "is missing")
            return None
        if targets.listed and kind not in (None, TargetType.LIST, TargetType.LOCAL):
            self._say("target_type", "must be list, or left out, where targets is a list")
        if targets.listed and kind is None:
            kind = TargetType.LIST
        expression = targets.expression
        if kind in (TargetType.LIST, TargetType.LOCAL):
            expression = ",".join(name for part in expression.split(",") if (name := part.strip()))
        return Target(expression, kind or TargetType.GLOB)

    def _optional(self, written: WrittenJob) -> dict[str, Any]:
        """What is given of the attributes that have defaults in Job."""
        return _given(
            user=written.user,
            cwd=written.cwd,
            env=written.env,
            secret_env=self._secrets(written),
            mask_secrets=written.mask_secrets,
            number_of_targets=written.number_of_targets or None,
            batch_size=written.batch_size if written.batch_size and written.batch_size.amount else None,
            max_failures=self._max_failures(written),
            success=written.success,
            timeout_s=self._timeout(written),
            kill_grace_s=written.kill_grace,
            kill_signal=written.kill_signal,
            overlap=self._overlap(written),
            splay_s=written.splay,
            retry=self._retry(written),
            use_wrapper=written.use_wrapper,
            output_limit=written.output_limit,
            enabled=written.enabled,
            description=written.description,
            tags=written.tags,
            owner=written.owner,
        )

    def _secrets(self, written: WrittenJob) -> Secrets | None:
        for name in sorted((written.env or {}).keys() & (written.secret_env or {}).keys()):
            self._say("secret_env", f"{name} is given in env as well")
        if written.secret_env and written.use_wrapper is False:
            self._say("secret_env", "needs the wrapper: without it, secrets would go through Salt")
        if written.mask_secrets and not written.secret_env:
            self._say("mask_secrets", "has no effect without secret_env", fatal=False)
        return written.secret_env

    def _max_failures(self, written: WrittenJob) -> Share | None:
        if written.max_failures and not written.max_failures.amount:
            self._say("max_failures", "0 would stop before the start; leave the key out for no limit, 1 is the least")
        return written.max_failures

    def _timeout(self, written: WrittenJob) -> float | None:
        """`timeout` counts where both names are given, as in the existing saltpeter."""
        if written.soft_timeout:
            self._say("soft_timeout", "has no effect; timeout ends a command, after kill_grace by force", fatal=False)
        if written.timeout is not None and written.hard_timeout not in (None, written.timeout):
            self._say("hard_timeout", "has no effect beside timeout", fatal=False)
        timeout_s = written.hard_timeout if written.timeout is None else written.timeout
        return math.inf if timeout_s is not None and not timeout_s else timeout_s

    def _overlap(self, written: WrittenJob) -> Overlap | None:
        if written.group is not None:
            self._say("group", "has no effect; a job's group is its file's name", fatal=False)
        if written.allow_overlap is None:
            return written.overlap
        if written.allow_overlap != OLD_ALLOW:
            self._say("allow_overlap", f"has no effect unless it says {OLD_ALLOW!r}; see overlap", fatal=False)
            return written.overlap
        if written.overlap not in (None, Overlap.ALLOW):
            self._say("allow_overlap", f"contradicts overlap: {written.overlap.value}")
        return Overlap.ALLOW

    def _retry(self, written: WrittenJob) -> Retry:
        if (written.retries or 0) > MOST_RETRIES:
            self._say("retries", f"is more than {MOST_RETRIES}")
        return Retry(**_given(limit=written.retries, delay_s=written.retry_delay, backoff=written.retry_backoff))


def _given(**maybe: Any) -> dict[str, Any]:
    """Those of the arguments that are not None: the defaults of the others stand where they are used."""
    return {key: value for key, value in maybe.items() if value is not None}


def _fault_in_name(name: str) -> str:
    if not name.strip():
        return "a job needs a name"
    if len(name) > LONGEST_NAME:
        return f"a job's name has at most {LONGEST_NAME} characters"
    return "a job's name must not hold control characters" if values.has_control_characters(name) else ""


def _wrapper(written: WrittenJob, default: WrapperSettings) -> WrapperSettings:
    return WrapperSettings(
        path=written.wrapper_path or default.path,
        loglevel=written.wrapper_loglevel.value if written.wrapper_loglevel else default.loglevel,
        logdir=written.wrapper_logdir or default.logdir,
    )
