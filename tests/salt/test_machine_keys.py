"""Real minions prove themselves by the keys that the real master has accepted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.daemon import Daemon, eventually
from tests.helpers.salt_lab import LabHandle

pytestmark = pytest.mark.salt


async def test_minions_prove_themselves(daemon: Daemon, salt_lab: LabHandle, tmp_path: Path) -> None:
    [accepted] = salt_lab.lab.directory.glob("**/pki/master/minions")
    daemon.write(greet={"command": "echo hello", "retries": 0})
    daemon.configure(machine_keys=str(accepted))
    await daemon.start()
    async with daemon.watching("greet") as watch:
        ended = await watch.results(await watch.run("greet"))
        assert [(each.code, each.output) for each in ended.values()] == [(0, "hello\n")] * 3
        swapped = tmp_path / "swapped"
        shutil.copytree(accepted, swapped)
        (swapped / "m1").write_bytes((accepted / "m2").read_bytes())
        daemon.configure(machine_keys=str(swapped))
        await watch.until(lambda: watch.config.get("saltpeter_config", {}).get("machine_keys") == str(swapped))
        await watch.run("greet")
        await eventually(lambda: "its proof is not by the key of m1 (machine_keys) (BAD_TOKEN)" in daemon.log())
        assert "by the key of m2" not in daemon.log()
        await watch.kill("greet")
