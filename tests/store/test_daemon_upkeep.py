"""The store's old age under a daemon: it forgets, leaves signs of life, and replaces what is damaged."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from saltpeter.domain.events import RunEnded
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.clock import now
from saltpeter.store.sqlite import open_store
from tests.helpers.daemon import Daemon, eventually
from tests.store.test_sqlite import started

LONG_AGO = now() - timedelta(days=200)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    settings = {"executor": "local", "log_format": "json", "retention": {"days": 30}}
    it = Daemon(tmp_path, settings)
    yield it
    it.end_everything()


async def test_a_daemon_looks_after_its_store(daemon: Daemon) -> None:
    async with open_store(daemon.state) as store:
        for minute in range(3):
            run, at = f"old_{minute}", LONG_AGO + timedelta(minutes=minute)
            await store.commit(started(run, "old", at), RunEnded(run=run, verdict=Verdict.SUCCEEDED, at=at))
    before = now()
    await daemon.start()
    await eventually(lambda: any(event["event"] == "store.pruned" for event in daemon.events()))
    killed_at = now()
    await daemon.signal(signal.SIGKILL)
    await daemon.start()
    assert await daemon.signal(signal.SIGTERM) == 0
    async with open_store(daemon.state) as store:
        down = (await store.why("old", killed_at)).down
        assert down is not None
        assert down.since is not None
        assert before < down.since < killed_at < down.until
        assert (await store.why("old", down.until)).down is None


async def test_a_daemon_whose_ledger_is_damaged_ends_and_starts_anew(daemon: Daemon) -> None:
    daemon.write(often={"command": "true", "schedule": "* * * * * *", "targets": ["m1"]})
    await daemon.start()
    ledger = daemon.state / "ledger.sqlite"
    with ledger.open("r+b") as file:
        file.write(b"\xa5" * ledger.stat().st_size)
    ledger.with_name("ledger.sqlite-wal").write_bytes(b"")
    await eventually(lambda: daemon.process.poll() is not None)
    assert daemon.process.returncode == 1
    assert "ledger.sqlite is damaged" in daemon.log()
    assert "start the daemon again" in daemon.log().splitlines()[-1]
    daemon.stderr.unlink()
    await daemon.start()
    assert "store.corrupt" in [event["event"] for event in daemon.events()]
    assert await daemon.signal(signal.SIGTERM) == 0


async def test_a_daemon_starts_without_the_ledger_that_it_had(daemon: Daemon) -> None:
    await daemon.start()
    assert await daemon.signal(signal.SIGTERM) == 0
    with (daemon.state / "ledger.sqlite").open("r+b") as file:
        file.write(b"\xa5" * 4096)
    await daemon.start()
    assert "store.corrupt" in [event["event"] for event in daemon.events()]
    assert await daemon.signal(signal.SIGTERM) == 0
    async with open_store(daemon.state) as store:
        [aside] = (await store.health()).set_aside
        assert (daemon.state / Path(aside).name).exists()
