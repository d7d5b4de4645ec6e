"""What the operator wrote, as values: jobs, targets, settings, maintenance."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

import attrs

from saltpeter.domain.schedule import Schedule
from saltpeter.errors import Problem

NOTHING: Mapping[str, str] = MappingProxyType({})


class TargetType(enum.Enum):
    """How Salt reads a target expression; LOCAL is the daemon's own host, without Salt."""

    GLOB = "glob"
    PCRE = "pcre"
    LIST = "list"
    GRAIN = "grain"
    GRAIN_PCRE = "grain_pcre"
    PILLAR = "pillar"
    PILLAR_PCRE = "pillar_pcre"
    COMPOUND = "compound"
    NODEGROUP = "nodegroup"
    RANGE = "range"
    IPCIDR = "ipcidr"
    LOCAL = "local"


class Overlap(enum.Enum):
    """What happens to a slot that is due while the job's last run lives."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"
    ALLOW = "allow"


@attrs.frozen
class Target:
    """A Salt expression. A list of ids has the type LIST and stands here joined by commas."""

    expression: str
    type: TargetType = TargetType.GLOB


@attrs.frozen
class Share:
    """A number of machines, absolute or as a percentage of all."""

    amount: float
    percent: bool = False

    def of(self, total: int) -> int:
        """How many of `total`: percentages round up, and at least one of a group that has one."""
        wanted = math.ceil(total * self.amount / 100) if self.percent else int(self.amount)
        return min(total, max(wanted, 1))


EVERY_MACHINE = Share(100, percent=True)


@attrs.frozen
class Retry:
    """`limit` further attempts on the machines that failed; the n-th waits delay_s * backoff ** (n - 1)."""

    limit: int = 0
    delay_s: float = 10.0
    backoff: float = 2.0


@attrs.frozen
class WrapperSettings:
    path: str = "/usr/local/bin/sp_wrapper.py"
    loglevel: str = "normal"  # normal, debug or off
    logdir: str = "/var/log/sp_wrapper"


@attrs.frozen
class SecretSource:
    """Where the daemon's host finds a secret: exactly one of the two is given."""

    file: str | None = None
    command: str | None = None


@attrs.frozen(kw_only=True)
class Job:
    """One job in force. Times are seconds; `inf` means no limit."""

    name: str
    group: str  # the file's name without .yaml
    path: str
    line: int
    schedule: Schedule
    command: str
    target: Target
    user: str | None = None
    cwd: str | None = None
    env: Mapping[str, str] = NOTHING
    secret_env: Mapping[str, SecretSource] = MappingProxyType({})
    mask_secrets: bool = False  # in the output, on the machine
    number_of_targets: int | None = None  # None: all
    batch_size: Share | None = None  # None: all at once
    max_failures: Share | None = None  # None: never stop
    success: Share = EVERY_MACHINE
    timeout_s: float = 3600.0
    kill_grace_s: float = 5.0
    kill_signal: str = "TERM"
    overlap: Overlap = Overlap.SKIP
    splay_s: float = 0.0
    retry: Retry = Retry()
    use_wrapper: bool = True
    wrapper: WrapperSettings = WrapperSettings()
    output_limit: int = 64 * 1024 * 1024  # bytes
    enabled: bool = True
    description: str = ""
    tags: tuple[str, ...] = ()
    owner: str = ""
    written: Mapping[str, object] = MappingProxyType({})  # the keys as the file has them, for people and clients


@attrs.frozen
class Retention:
    """How much of the past is kept: the first limit that is reached counts. None is no limit."""

    days: int | None = 90
    runs_per_job: int | None = None
    bytes: int | None = 10 * 1024**3  # ledger and output together


KEEP_EVERYTHING = Retention(days=None, runs_per_job=None, bytes=None)


@attrs.frozen(kw_only=True)
class Settings:
    """`saltpeter_config`. A change of a key in `domain.config.NEEDS_RESTART` takes effect at the next start."""

    statedir: str
    logdir: str
    debug: bool = False
    log_format: str = "text"  # text or json
    api_ws: bool = True
    api_ws_port: int = 8888
    api_ws_bind_addr: str = "127.0.0.1"
    api_ws_hosts: tuple[str, ...] = ()  # names by which browsers may call it, beside addresses and the host's own
    require_tokens: bool = False  # also while no token exists
    socket_group: str | None = None  # who may open the Unix socket, beside its owner
    tls_certificate: str | None = None  # files of PEM, for both ports
    tls_key: str | None = None
    insecure: bool = False  # a control port for everybody, without TLS and tokens
    machines_ws_port: int = 8889
    machines_ws_bind_addr: str = "127.0.0.1"
    server_host: str = "127.0.0.1"  # default_saltpeter_server_host: where the wrappers find the daemon
    wrapper: WrapperSettings = WrapperSettings()
    allow_legacy_wrappers: bool = False
    timezone: str | None = None  # None: the host's zone
    executor: str = "salt"  # salt or local
    respond_within_s: float = 15.0
    order_key: str | None = None  # the private key that launch orders are signed with
    order_valid_for_s: float = 3600.0
    machine_keys: str | None = None  # the folder of the minions' public keys, where machines have to prove themselves
    tls_ca: str | None = None  # whom the daemon's certificate is by: a file of PEM, or "system"
    master_config: str = "/etc/salt/master"
    retention: Retention = Retention()


@attrs.frozen(kw_only=True)
class Maintenance:
    """`everything` stops all new runs; `machines` are left out of them. What runs, runs on."""

    everything: bool = False
    machines: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class Hold:
    """Maintenance that a person has put a machine under while the daemon runs; "" is every machine.

    Both instants are aware. Past `until` it no longer counts; None: until somebody ends it.
    """

    machine: str
    reason: str
    by: str
    since: datetime
    until: datetime | None = None

    def counts(self, at: datetime) -> bool:
        return self.until is None or at < self.until


@attrs.frozen(kw_only=True)
class Config:
    """All of conf.d. `problems` concern jobs and files that are not, or not as written, in force."""

    jobs: Mapping[str, Job]
    settings: Settings
    maintenance: Maintenance = Maintenance()
    problems: tuple[Problem, ...] = ()
