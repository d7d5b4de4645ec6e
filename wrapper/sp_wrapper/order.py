"""What the wrapper is asked to do: its environment, read once. Loaded before the command starts, so kept light."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from math import inf

from sp_wrapper.kernel import SIGNALS, signal

MIB = 1024 * 1024

LOG_LEVELS = ("off", "normal", "debug")

FOR_COMMAND = ("SP_JOB_NAME", "SP_JOB_INSTANCE")  # all that a command sees of the wrapper's own variables


class OrderError(Exception):
    """The environment holds no order that can be carried out."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable} {problem}")


# a namedtuple, because importing dataclasses or typing would delay the command by more than all of this module
_Fields = namedtuple(
    "_Fields",
    "url token secret job instance machine attempt command cwd user timeout_s kill_signal grace_s allow_overlap"
    " machine_key tls_ca tls_fingerprint lockfile output_limit interval_s loglevel logdir report_for_s secrets"
    " secrets_within_s mask_secrets",
)


class Order(_Fields):
    """One command to run and report. `timeout_s` is inf for none; empty strings mean "not given"."""

    __slots__ = ()
    url: str
    token: str
    secret: str  # made here, known to nobody but the daemon: who speaks for this run on this machine
    job: str
    instance: str
    machine: str
    attempt: int
    command: str
    cwd: str
    user: str
    timeout_s: float
    kill_signal: int
    grace_s: float
    allow_overlap: bool
    machine_key: str  # where the minion's private key lies, to prove with it which machine this is; "": not asked for
    tls_ca: str  # PEM, whom the daemon's certificate must be by; "": whom the machine trusts
    tls_fingerprint: str  # instead: the SHA-256 that the certificate must have, in lower-case hex
    lockfile: str
    output_limit: int
    interval_s: float
    loglevel: str
    logdir: str
    report_for_s: float
    secrets: tuple[str, ...]  # variables whose values the daemon has; the command waits for them
    secrets_within_s: float
    mask_secrets: bool  # in the output


def parse(environ: Mapping[str, str]) -> Order:
    """Read the order from SP_* variables. Raises OrderError, which names the variable."""
    return Order(
        url=_url(environ),
        token=environ.get("SP_TOKEN", ""),
        secret=environ.get("SP_SECRET", ""),
        job=_needed(environ, "SP_JOB_NAME"),
        instance=environ.get("SP_JOB_INSTANCE") or _needed(environ, "SP_JOB_INSTANCE_NAME"),
        machine=_needed(environ, "SP_MACHINE_ID"),
        attempt=int(_number(environ, "SP_ATTEMPT", 1, least=1)),
        command=_needed(environ, "SP_COMMAND"),
        cwd=environ.get("SP_CWD", ""),
        user=environ.get("SP_USER", ""),
        timeout_s=_number(environ, "SP_TIMEOUT", 0) or inf,
        kill_signal=_signal(environ),
        grace_s=_number(environ, "SP_KILL_GRACE", 5),
        allow_overlap=_flag(environ, "SP_ALLOW_OVERLAP"),
        machine_key=_needed(environ, "SP_MACHINE_KEY") if _flag(environ, "SP_PROVE_MACHINE") else "",
        tls_ca=environ.get("SP_TLS_CA", ""),
        tls_fingerprint=_fingerprint(environ),
        lockfile=environ.get("SP_LOCKFILE", ""),
        output_limit=int(_number(environ, "SP_OUTPUT_LIMIT", 64 * MIB, least=1)),
        interval_s=_number(environ, "SP_OUTPUT_INTERVAL_MS", 200) / 1000,
        loglevel=_log_level(environ),
        logdir=environ.get("SP_WRAPPER_LOGDIR", ""),
        report_for_s=_number(environ, "SP_REPORT_FOR_S", 24 * 3600),
        secrets=_names(environ, "SP_SECRETS"),
        secrets_within_s=_number(environ, "SP_SECRETS_WITHIN", 300),
        mask_secrets=_flag(environ, "SP_MASK_SECRETS"),
    )


def signal_number(name: str) -> int | None:
    """The number of `TERM`, `SIGTERM` or `15`; None for what is no signal."""
    if name.isdecimal():
        return int(name) if 0 < int(name) < signal.NSIG else None
    return SIGNALS.get(name.upper()) or SIGNALS.get("SIG" + name.upper())


def _needed(environ: Mapping[str, str], key: str) -> str:
    value = environ.get(key, "")
    if not value:
        raise OrderError(key, "is not set")
    return value


def _url(environ: Mapping[str, str]) -> str:
    url = _needed(environ, "SP_WEBSOCKET_URL")
    if not url.startswith(("ws://", "wss://")):
        raise OrderError("SP_WEBSOCKET_URL", f"must start with ws:// or wss://, not {url[:40]!r}")
    return url


def _fingerprint(environ: Mapping[str, str]) -> str:
    text = environ.get("SP_TLS_FINGERPRINT", "")
    plain = text.replace(":", "").lower()
    if plain and (len(plain) != 64 or plain.strip("0123456789abcdef")):
        raise OrderError("SP_TLS_FINGERPRINT", f"must be a SHA-256 in hex, not {text[:80]!r}")
    return plain


def _flag(environ: Mapping[str, str], key: str) -> bool:
    return environ.get(key, "").lower() in ("1", "true", "yes")


def _names(environ: Mapping[str, str], key: str) -> tuple[str, ...]:
    names = tuple(environ[key].split(",")) if environ.get(key) else ()
    for name in names:
        if not name.isidentifier():
            raise OrderError(key, f"must be names of variables with commas between them, not {name[:40]!r}")
    return names


def _number(environ: Mapping[str, str], key: str, default: float, least: float = 0) -> float:
    text = environ.get(key, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise OrderError(key, f"must be a number, not {text[:40]!r}") from None
    if not least <= value < inf:  # also for NaN, which is not less than anything
        raise OrderError(key, f"must be a finite number of at least {least:g}, not {text[:40]!r}")
    return value


def _signal(environ: Mapping[str, str]) -> int:
    name = environ.get("SP_KILL_SIGNAL") or "TERM"
    number = signal_number(name)
    if number is None:
        raise OrderError("SP_KILL_SIGNAL", f"must name a signal, not {name[:40]!r}")
    return number


def _log_level(environ: Mapping[str, str]) -> str:
    level = environ.get("SP_WRAPPER_LOGLEVEL") or "normal"
    if level not in LOG_LEVELS:
        raise OrderError("SP_WRAPPER_LOGLEVEL", f"must be one of {', '.join(LOG_LEVELS)}, not {level[:40]!r}")
    return level
