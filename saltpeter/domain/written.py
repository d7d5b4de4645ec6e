"""Every key that may stand in a file of conf.d, with its type: what is written, before it means anything."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NewType

import attrs

from saltpeter.domain import values
from saltpeter.domain.job import Overlap, Retention, Share, TargetType
from saltpeter.domain.schedule import DayMatch, Misfire
from saltpeter.domain.values import (
    AbsolutePath,
    ByteCount,
    Count,
    Environment,
    Factor,
    Flag,
    OrderSeconds,
    Port,
    ProgramPath,
    Seconds,
    Secrets,
    SignalName,
    Success,
    Targets,
    Text,
    TrustAnchor,
    UserName,
    Words,
    Wrong,
)
from saltpeter.domain.yamltext import Node, Scalar, Table
from saltpeter.errors import Problem

CronText = NewType("CronText", str)
Ignored = NewType("Ignored", str)

values.converter.register_structure_hook(CronText, lambda node, _: CronText(values.scalar(node)))
values.converter.register_structure_hook(Ignored, lambda node, _: Ignored(str(node.plain)))


class LogLevel(enum.Enum):
    """How much a wrapper writes into its own log on the machine."""

    NORMAL = "normal"
    DEBUG = "debug"
    OFF = "off"


class LogFormat(enum.Enum):
    TEXT = "text"
    JSON = "json"


class Executor(enum.Enum):
    SALT = "salt"
    LOCAL = "local"


@attrs.frozen(kw_only=True)
class WrittenJob:
    """A job's keys; None where its file says nothing."""

    command: Text
    targets: Targets | None = None
    target_type: TargetType | None = None
    schedule: Text | None = None
    sec: CronText | None = None
    min: CronText | None = None
    hour: CronText | None = None
    dom: CronText | None = None
    mon: CronText | None = None
    dow: CronText | None = None
    year: CronText | None = None
    timezone: Text | None = None
    utc: Flag | None = None
    day_match: DayMatch | None = None
    misfire: Misfire | None = None
    misfire_grace: Seconds | None = None
    user: UserName | None = None
    cwd: AbsolutePath | None = None
    env: Environment | None = None
    secret_env: Secrets | None = None
    mask_secrets: Flag | None = None
    number_of_targets: Count | None = None
    batch_size: Share | None = None
    max_failures: Share | None = None
    success: Success | None = None
    timeout: Seconds | None = None
    hard_timeout: Seconds | None = None
    soft_timeout: Seconds | None = None
    kill_grace: Seconds | None = None
    kill_signal: SignalName | None = None
    overlap: Overlap | None = None
    allow_overlap: Ignored | None = None
    splay: Seconds | None = None
    retries: Count | None = None
    retry_delay: Seconds | None = None
    retry_backoff: Factor | None = None
    use_wrapper: Flag | None = None
    wrapper_path: ProgramPath | None = None
    wrapper_loglevel: LogLevel | None = None
    wrapper_logdir: AbsolutePath | None = None
    output_limit: ByteCount | None = None
    enabled: Flag | None = None
    description: Text | None = None
    tags: Words | None = None
    owner: Text | None = None
    group: Ignored | None = None


@attrs.frozen(kw_only=True)
class WrittenSettings:
    """The keys of `saltpeter_config`; None where no file says anything."""

    statedir: AbsolutePath | None = None
    logdir: AbsolutePath | None = None
    debug: Flag | None = None
    log_format: LogFormat | None = None
    api_ws: Flag | None = None
    api_ws_port: Port | None = None
    api_ws_bind_addr: Text | None = None
    api_ws_hosts: Words | None = None
    require_tokens: Flag | None = None
    socket_group: UserName | None = None
    tls_certificate: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None
    insecure: Flag | None = None
    machines_ws_port: Port | None = None
    machines_ws_bind_addr: Text | None = None
    default_saltpeter_server_host: Text | None = None
    default_wrapper_path: ProgramPath | None = None
    default_wrapper_loglevel: LogLevel | None = None
    default_wrapper_logdir: AbsolutePath | None = None
    allow_legacy_wrappers: Flag | None = None
    timezone: Text | None = None
    executor: Executor | None = None
    respond_within: Seconds | None = None
    order_key: AbsolutePath | None = None
    machine_keys: AbsolutePath | None = None
    order_valid_for: OrderSeconds | None = None
    tls_ca: TrustAnchor | None = None
    master_config: AbsolutePath | None = None
    retention: Retention | None = None
    elasticsearch: Ignored | None = None
    elasticsearch_index: Ignored | None = None
    opensearch: Ignored | None = None
    opensearch_index: Ignored | None = None


@attrs.frozen(kw_only=True)
class WrittenMaintenance:
    """The keys of `saltpeter_maintenance`; `global_` is written `global`, a word that Python keeps for itself."""

    global_: Flag | None = None
    machines: Words | None = None


@attrs.frozen
class Fault:
    """Something wrong, or worth saying, about a key; about all of them where `key` is ""."""

    key: str
    line: int
    text: str
    fatal: bool = True

    def problem(self, path: str, job: str) -> Problem:
        return Problem(path, self.line, job, self.key, self.text, self.fatal)


@attrs.frozen
class Keys:
    """The keys of a table that could be read, by the names of the class's attributes; and what is wrong."""

    values: Mapping[str, Any]
    lines: Mapping[str, int]  # by the keys as written
    faults: tuple[Fault, ...]
    bad: frozenset[str]  # the attributes whose keys could not be read


def read(kind: type[attrs.AttrsInstance], node: Node) -> Keys:
    """Read a table by the attributes of `kind`. A key without a value counts as not written. Raises nothing."""
    types = keys_of(kind)
    if not isinstance(node, Table):
        wrong = Fault("", node.line, "must be keys with their values below it")
        return Keys({}, {}, (wrong,), frozenset(name for name, _ in types.values()))
    found: dict[str, Any] = {}
    bad: set[str] = set()
    faults = [Fault(key.text, key.line, f"was given before, in line {first.line}") for key, first in node.twice()]
    for key, value in node.entries:
        if key.text not in types:
            faults.append(Fault(key.text, key.line, f"unknown key{values.suggestion(key.text, types)}"))
        elif not (isinstance(value, Scalar) and (value.is_null or not value.text)):
            name, of_type = types[key.text]
            try:
                found.setdefault(name, values.converter.structure(value, of_type))
            except Wrong as exc:
                bad.add(name)
                faults.append(Fault(key.text, exc.line or key.line, exc.problem))
    lines = {key.text: key.line for key, _ in reversed(node.entries)}
    return Keys(found, lines, tuple(faults), frozenset(bad))


@lru_cache
def keys_of(kind: type[attrs.AttrsInstance]) -> dict[str, tuple[str, Any]]:
    """The keys of `kind`, each with its attribute's name and type."""
    attrs.resolve_types(kind)
    return {field.name.rstrip("_"): (field.name, field.type) for field in attrs.fields(kind)}
