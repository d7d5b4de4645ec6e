"""The lab keeps to its directory and its process."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from saltpeter.lab import _LONGEST_SOCKET, _SOCKET_PATH_MAX, LabError, lab

OWNER = """
import sys, trio
from pathlib import Path
from saltpeter.lab import lab

async def main():
    async with lab(Path(sys.argv[1]), minions=1) as built:
        print(built.minions, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def deepest(directory: Path) -> Path:
    """A directory below, with the longest name that a lab can have."""
    return directory / ("x" * (_SOCKET_PATH_MAX - len(f"{directory}//{_LONGEST_SOCKET}")))


def living(directory: Path) -> list[str]:
    """The command lines that mention `directory`."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line:
            lines.append(line)
    return lines


@pytest.mark.salt
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "ctrl-c"])
def test_nothing_is_left_when_the_labs_process_dies(how: signal.Signals) -> None:
    with tempfile.TemporaryDirectory(prefix="splab") as name:
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(deepest(Path(name)))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert owner.stdout is not None
        with owner.stdout:
            assert owner.stdout.readline() == b"('m1',)\n"
            assert len(living(Path(name))) > 4
            owner.send_signal(how)
            owner.wait(10)
        deadline = time.monotonic() + 10
        while living(Path(name)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert living(Path(name)) == []


async def test_a_directory_with_too_long_a_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 80)
    with pytest.raises(LabError, match="too long a path"):
        async with lab(directory):
            pass
    assert not directory.exists()
