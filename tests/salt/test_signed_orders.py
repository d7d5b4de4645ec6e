"""Orders that are signed reach real minions as they were signed, and no others are obeyed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.daemon import Daemon, command
from tests.helpers.salt_lab import LabHandle

pytestmark = pytest.mark.salt


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "order_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


async def test_machines_with_the_key_obey_its_orders_only(daemon: Daemon, salt_lab: LabHandle, key: Path) -> None:
    file = daemon.directory / "on the machines" / "sp_wrapper.py"
    master = ("--master-config", str(salt_lab.lab.master_config))
    done = await command("wrapper", "deploy", "*", "--path", str(file), "--order-key", f"{key}.pub", *master)
    assert done.returncode == 0, done.stderr
    assert (file.parent / "sp_wrapper.py.order_key.pub").read_text() == key.with_suffix(".pub").read_text()
    refused = await command("wrapper", "deploy", "*", "--path", str(file), "--order-key", str(key), *master)
    assert (refused.returncode, b"is no public key" in refused.stderr) == (1, True)

    greeting = "salve,\n{{ munde }} 'ü' \"$(id)\" "
    job = {"command": 'printf %s "$GREETING"; printf %s "€"', "env": {"GREETING": greeting, "EMPTY": ""}}
    daemon.write(greet={**job, "cwd": "/usr", "user": "root", "timeout": "1m"})
    daemon.configure(default_wrapper_path=str(file))
    await daemon.start()
    async with daemon.watching("greet") as watch:
        for each in (await watch.results(await watch.run("greet"))).values():
            assert each.code == 255
            assert "it is not signed, and this machine has an order key" in each.output
        daemon.configure(order_key=str(key))
        await watch.until(lambda: watch.config.get("saltpeter_config", {}).get("order_key"))
        ended = await watch.results(await watch.run("greet"))
        assert [(each.code, each.output) for each in ended.values()] == [(0, greeting + "€")] * 3
