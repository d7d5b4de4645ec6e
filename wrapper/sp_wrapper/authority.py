"""Whether an order may be carried out: not too old, and signed, where a key of the daemon's lies on the machine.

What it is for, one attempt of one run, the claim lets begin once only; an order expires before its claim is forgotten.
"""

from __future__ import annotations

import binascii
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite

from sp_wrapper import seal
from sp_wrapper.state import KEEP_S

KEY_FILE = "/etc/saltpeter/order_key.pub"
BESIDE = ".order_key.pub"  # added to the name of the wrapper's own file: the other place where a key counts
PROGRAMS = ("/usr/bin/ssh-keygen", "/usr/local/bin/ssh-keygen", "/bin/ssh-keygen")
VERIFY_S = 20.0
MOST_S = KEEP_S - 24 * 3600  # an order must have expired before its claim is forgotten


class Unauthorised(Exception):
    """The order is not to be carried out; the text is for the operator."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"does not accept this order: {problem}")


def check(environ: Mapping[str, str], file: str, now: float) -> None:
    """Raises Unauthorised. `file` is the wrapper's own; `now` is in seconds since the epoch."""
    key = _key(file)
    if key is not None:
        _check_signature(environ, *key)
    _check_time(environ, now, needed=key is not None)


def _check_time(environ: Mapping[str, str], now: float, *, needed: bool) -> None:
    text = environ.get("SP_EXPIRES", "")
    if not text and not needed:
        return  # of an older daemon
    try:
        left_s = float(text) - now
    except ValueError:
        left_s = float("nan")
    if not isfinite(left_s):
        raise Unauthorised(f"SP_EXPIRES must say when it expires, not {text[:40]!r}")
    if left_s < 0:
        raise Unauthorised(f"it expired {-left_s:.0f} seconds ago by this machine's clock; is the clock right?")
    if left_s > MOST_S:
        raise Unauthorised(f"it would be good for {left_s:.0f} seconds by this machine's clock; is the clock right?")


def _check_signature(environ: Mapping[str, str], path: str, keys: str) -> None:
    names = environ.get(seal.NAMES, "").split(",")
    signature = environ.get(seal.SIGNATURE, "")
    if not signature:
        raise Unauthorised(f"it is not signed, and this machine has an order key ({path})")
    missing = [name for name in names if name not in environ]
    added = [name for name in environ if name.startswith("SP_") and name not in seal.UNSIGNED.union(names)]
    if missing or added:
        raise Unauthorised(f"it was changed after it was signed: {', '.join(missing + added)[:200]}")
    if not _verified(seal.text(environ, names, os.fsencode), signature, keys):
        raise Unauthorised(f"its signature is not by an order key of this machine ({path}), or it was changed")
    _check_machine(environ)


def _check_machine(environ: Mapping[str, str]) -> None:
    run, machine = environ.get("SP_JOB_INSTANCE", ""), environ.get("SP_MACHINE_ID", "")
    try:
        marks = binascii.a2b_base64(environ.get("SP_MACHINES", ""))
    except ValueError:
        marks = b""
    if not seal.is_for(marks, run, machine):
        raise Unauthorised(f"it is not for {machine[:100]!r}")


def _key(file: str) -> tuple[str, str] | None:
    """The order key of this machine: where it lies, and its lines. None where there is none."""
    for path in (KEY_FILE, file + BESIDE):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise Unauthorised(f"the order key {path} cannot be read: {exc.strerror}") from exc
        with open(fd, "rb") as opened:
            _check_owner(path, os.fstat(fd))
            return path, opened.read(64 * 1024).decode(errors="replace")
    return None


def _check_owner(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Unauthorised(f"the order key {path} is no file")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise Unauthorised(f"the order key {path} could be changed by others: it must be root's, with mode 0644")


def _verified(text: bytes, signature: str, keys: str) -> bool:
    import subprocess  # noqa: PLC0415 - only where there is a key

    program = next((each for each in PROGRAMS if os.access(each, os.X_OK)), None)
    if program is None:
        raise Unauthorised("there is no ssh-keygen to verify it with; install OpenSSH's client (openssh-client)")
    kinds = [line.split()[:2] for line in keys.splitlines() if line.strip() and not line.startswith("#")]
    signers = "".join(f'{seal.SIGNER} namespaces="{seal.NAMESPACE}" {" ".join(kind)}\n' for kind in kinds)
    armoured = f"{seal.BEGIN}\n{signature}\n{seal.END}\n"
    options = ("-Y", "verify", "-I", seal.SIGNER, "-n", seal.NAMESPACE)
    with _in_memory(signers) as allowed, _in_memory(armoured) as signed:
        try:
            done = subprocess.run(  # noqa: S603 - a fixed program with our own arguments
                [program, *options, "-f", f"/proc/self/fd/{allowed}", "-s", f"/proc/self/fd/{signed}"],
                input=text,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                pass_fds=(allowed, signed),
                timeout=VERIFY_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise Unauthorised(f"its signature could not be verified: {exc}") from exc
    return done.returncode == 0


@contextmanager
def _in_memory(content: str) -> Iterator[int]:
    """A file that is nowhere on disk."""
    fd = os.memfd_create("sp_wrapper")
    try:
        os.write(fd, content.encode(errors="replace"))
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
