"""Putting the wrapper on machines through Salt, and nothing else: no file server has to be set up for it.

The file goes out in pieces, each in a command of its own, and takes its place only once all of it has arrived.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import PurePosixPath

import attrs

from saltpeter.engine.launcher import Answer, Launcher, StartPlain, ask
from saltpeter.launch.salt import SaltLauncher
from saltpeter.launch.serving import serving

PIECE = 90_000  # bytes; as base64 it fits into one argument of a program, of which Linux takes 128 KiB
ANSWER_S = 60.0  # for a machine that is there; its Salt may be busy with something else
PYTHONS = (
    "python3 /usr/bin/python3 /usr/local/bin/python3 /opt/saltstack/salt/bin/python3"
    " python3.14 python3.13 python3.12 python3.11 python3.10"
)

_IS_USABLE = 'import sys; print("%d.%d.%d" % sys.version_info[:3]); sys.exit(sys.version_info < (3, 10))'
_LOOK = f"""
for python in {PYTHONS}; do
    found=$("$python" -I -S -c '{_IS_USABLE}' 2>/dev/null) && break
    found=
done
echo "python=$found"
test -e "$path" || exit 0
echo "digest=$(sha256sum <"$path" | cut -d' ' -f1)"
echo "version=$("$path" --version 2>&1 | tail -n 1)"
"""
_PLACE = """
if echo "$digest  $draft" | sha256sum -c >/dev/null 2>&1; then
    chmod "$mode" "$draft" && mv -f "$draft" "$path"
else
    echo "the file arrived damaged" >&2; rm -f "$draft"; exit 1
fi
"""


@attrs.frozen(kw_only=True)
class Found:
    """What is on one machine. `python` is one that runs the wrapper; each is "" where there is none.

    `problem` says why the machine could not be looked at or served.
    """

    machine: str
    version: str = ""
    python: str = ""
    digest: str = ""  # SHA-256 of the file
    problem: str = ""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def salt(master_config: str, after_import: Callable[[], None]) -> AbstractAsyncContextManager[Launcher]:
    """A way to machines by the Salt master of that configuration. Entering it raises LaunchError."""
    return serving(SaltLauncher(master_config, after_import=after_import))


async def look(launcher: Launcher, machines: Collection[str], path: str, within_s: float) -> dict[str, Found]:
    """What of a wrapper is at `path` on each of `machines`. Raises LaunchUnknown and LaunchError."""
    answers = await _told(launcher, f"path={shlex.quote(path)}\n{_LOOK}", machines, within_s)
    return {machine: _found(machine, answers.get(machine)) for machine in machines}


def _found(machine: str, answer: Answer | None) -> Found:
    if answer is None:
        return Found(machine=machine, problem="did not respond")
    if answer.code != 0:
        return Found(machine=machine, problem=answer.text.strip() or f"exit code {answer.code}")
    facts = dict(line.split("=", 1) for line in answer.text.splitlines() if "=" in line)
    known = {name: facts.get(name, "") for name in ("version", "python", "digest")}
    return Found(machine=machine, **known)


async def deploy(
    launcher: Launcher,
    machines: Collection[str],
    path: str,
    content: bytes,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Found]:
    """Put `content` at `path` on `machines`, executable; what is there on each of them then.

    A machine that fails on the way is left as it was. `progress` hears how many of how many steps are done.
    Raises LaunchUnknown and LaunchError.
    """
    failed = await place(launcher, machines, path, content, mode=0o755, progress=progress)
    going = [machine for machine in machines if machine not in failed]
    return {**await look(launcher, going, path, ANSWER_S), **failed}


async def place(
    launcher: Launcher,
    machines: Collection[str],
    path: str,
    content: bytes,
    *,
    mode: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Found]:
    """Put a file with `content` at `path` on `machines`; those where that failed. Raises as `deploy` does."""
    steps = list(_steps(path, content, mode))
    failed: dict[str, Found] = {}
    going = list(machines)
    for number, step in enumerate(steps):
        progress(number, len(steps))
        answers = await _told(launcher, step, going, ANSWER_S)
        found = {machine: _found(machine, answers.get(machine)) for machine in going}
        failed |= {machine: each for machine, each in found.items() if each.problem}
        going = [machine for machine in going if machine not in failed]
    progress(len(steps), len(steps))
    return failed


def _steps(path: str, content: bytes, mode: int) -> Iterator[str]:
    """The commands, one after the other. Several machines may share a host: each has a draft of its own."""
    names = f'path={shlex.quote(path)}; draft="$path.$SP_MACHINE_ID.part"\n'
    folder = shlex.quote(str(PurePosixPath(path).parent))
    yield f'{names}mkdir -p {folder} && (umask 077; : >"$draft")'
    for start in range(0, len(content), PIECE):
        piece = base64.b64encode(content[start : start + PIECE]).decode()
        yield f'{names}printf %s {piece} | base64 -d >>"$draft"'
    yield f"{names}digest={digest(content)} mode={mode:o}\n{_PLACE}"


async def _told(launcher: Launcher, command: str, machines: Collection[str], within_s: float) -> dict[str, Answer]:
    """What those of `machines` say to a shell command that answer in time."""
    run = f"wrapper-{secrets.token_hex(8)}"
    call = StartPlain(command=command, run=run, job="wrapper", user=None, cwd=None, env={}, timeout_s=math.inf)
    return await ask(launcher, call, machines, within_s)
