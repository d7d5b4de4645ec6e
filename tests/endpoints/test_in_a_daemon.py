"""A whole daemon, asked over its Unix socket: what it says of itself is of what it really did."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from prometheus_client import Metric

from tests.endpoints.exposition import faults, parsed
from tests.helpers.daemon import Daemon, local_daemon

DOCUMENTED = Path(__file__).parents[2] / "docs" / "control-protocol.md"


@pytest.fixture
def daemon(tmp_path: Path, wrapper_file: Path) -> Iterator[Daemon]:
    with local_daemon(tmp_path, wrapper_file) as made:
        yield made


async def get(daemon: Daemon, path: str) -> tuple[int, str]:
    with trio.fail_after(30):
        async with await trio.open_unix_socket(daemon.socket) as stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join([bytes(part) async for part in stream])
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2].decode()


async def test_what_a_daemon_says_of_itself(daemon: Daemon) -> None:
    daemon.write(short={"command": "echo 12345; exit 3", "targets": ["m1", "m2"]})
    await daemon.start()
    status, said = await get(daemon, "/readyz")
    assert (status, list(json.loads(said)["checks"])) == (200, ["config", "ports", "store"])
    async with daemon.watching("short") as watch:
        run = await watch.run("short")
        await watch.results(run)
        [row] = (await watch.client.request("getRuns", {"failed": True}))["runs"]
        assert (row["job_instance"], row["machines"], row["failed"], row["by"][:5]) == (run, 2, 2, "unix:")
        page = await watch.client.request("getOutput", {"job_instance": run, "machine": "m2"})
        assert (page["chunk"], page["is_complete"], page["total_length"]) == ("12345\n", True, 6)
        daemon.write(short={"command": "true", "targets": "m1"}, other={"command": "true", "targets": "m1"})
        assert await watch.client.request("reload", True) == {"jobs": 2, "problems": []}
        assert (await watch.client.request("why", "other"))["answer"] == "not_due"
    _, figures = await get(daemon, "/metrics")
    for line in (
        'saltpeter_runs_total{verdict="failed"} 1.0',
        'saltpeter_executions_ended_total{outcome="exited"} 2.0',
        "saltpeter_phase1_seconds_count 2.0",
        "saltpeter_output_bytes_total 12.0",
        "saltpeter_executions_running 0.0",
        "saltpeter_config_jobs 2.0",
    ):
        assert line in figures.splitlines()
    assert faults(figures) == []
    table = DOCUMENTED.read_text().partition("### Figures")[2].partition("## Requests")[0]
    documented = set(re.findall(r"`(saltpeter_\w+)", table))
    assert documented == {_as_documented(family) for family in parsed(figures) if family.name.startswith("saltpeter_")}


def _as_documented(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
