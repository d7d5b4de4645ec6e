"""The text log of a job, from end to end: a real daemon, and a real wrapper."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.helpers.daemon import local_daemon


async def test_a_run_stands_in_the_log_of_its_job(tmp_path: Path, wrapper_file: Path) -> None:
    """Also what came last before the daemon was stopped."""
    with local_daemon(tmp_path, wrapper_file) as daemon:
        daemon.write(backup={"command": "printf 'one\\ntwo'; exit 3", "targets": "m1"})
        await daemon.start()
        async with daemon.watching("backup") as watch:
            run = await watch.run("backup")
            await watch.results(run)
        await daemon.signal(signal.SIGTERM)
        lines = (daemon.logs / "backup.log").read_text().splitlines()
        words = [line.split(" ", 3)[1:] for line in lines]
        pid = next(text for _, _, text in words if text.startswith("started (PID: "))
        assert words == [
            [run, "-", words[0][2]],
            [run, "m1", pid],
            [run, "m1", "one"],
            [run, "m1", "two"],
            [run, "m1", "ended: exited (exit code: 3)"],
            [run, "-", "ended: failed"],
        ]
        assert words[0][2].startswith("started by ")
