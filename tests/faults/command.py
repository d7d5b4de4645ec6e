"""What every job of a campaign runs on a machine: it tells a journal of its own what it did, and writes known bytes.

Run as a program, it stands alone. `python -I -S command.py SIZE SECONDS FAILS` writes SIZE bytes over SECONDS and
ends with a code that is not 0 in FAILS of 100 cases.
"""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

JOURNAL = "FAULTS_JOURNAL"  # where the journal is, in the environment
STEPS = 20  # in which the output is written
BROKEN_PIPE = 141


def said(run: str, machine: str, attempt: int, size: int) -> bytes:
    """What the command writes: bytes of every kind, the same whenever it is asked."""
    return random.Random(f"output {run} {machine} {attempt}").randbytes(size)  # noqa: S311  hides nothing


def code(run: str, machine: str, attempt: int, fails: int) -> int:
    """What it ends with."""
    chance = random.Random(f"code {run} {machine} {attempt}")  # noqa: S311  hides nothing
    return chance.randint(1, 99) if chance.randrange(100) < fails else 0


def main(size: int, seconds: float, fails: int) -> int:
    who = _who()
    if who is None:
        return BROKEN_PIPE
    _note(*who, "start")
    data = said(*who, size)
    step = max(1, -(-size // STEPS))
    try:
        for at in range(0, size, step):
            sys.stdout.buffer.write(data[at : at + step])
            sys.stdout.buffer.flush()
            time.sleep(seconds / STEPS)
    except BrokenPipeError:  # the wrapper was killed
        os._exit(BROKEN_PIPE)
    ending = code(*who, fails)
    _note(*who, f"end {ending}")
    return ending


def _who() -> tuple[str, str, int] | None:
    """The run, the machine and the attempt, from the wrapper's order; None when the wrapper has just died."""
    held = [path for path in _open_in(os.getppid()) if path.parent.name == "runs"]  # it holds its claim
    try:
        entries = (held[0] / "order").read_text().split("\0")
    except (OSError, IndexError):
        return None
    env = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    return env["SP_JOB_INSTANCE"], env["SP_MACHINE_ID"], int(env["SP_ATTEMPT"])


def _open_in(pid: int) -> list[Path]:
    """What the process has open, but for what it closes just now."""
    found = []
    with suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.append(fd.readlink())
    return found


def _note(run: str, machine: str, attempt: int, what: str) -> None:
    """One line, in one piece, whoever else writes."""
    journal = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(journal, f"{run} {machine} {attempt} {what}\n".encode())
    os.close(journal)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
