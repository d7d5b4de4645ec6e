"""How jobs end: on a real daemon, a real master and three minions."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.helpers.daemon import Daemon, eventually
from tests.helpers.salt_lab import LabHandle

pytestmark = pytest.mark.salt

ALL = ["m1", "m2", "m3"]


async def test_output_streams_and_exit_codes_arrive(daemon: Daemon, tmp_path: Path) -> None:
    locked = tmp_path / "locked.py"
    locked.write_text("#!/bin/sh\n")
    go = tmp_path / "go"
    daemon.write(
        streaming={"command": f"echo first; while [ ! -e {go} ]; do sleep 0.1; done; echo last"},
        failing={"command": "echo to stderr >&2; exit 3", "targets": "m2"},
        locked={"command": "true", "wrapper_path": str(locked), "targets": ["m1", "m3"]},
        missing={"command": "true", "wrapper_path": "/nowhere/sp_wrapper.py", "targets": "m1"},
    )
    await daemon.start()
    async with daemon.watching("streaming", "failing", "locked", "missing") as watch:
        streaming = await watch.run("streaming")
        await watch.until(lambda: all(watch.output(streaming, machine) == "first\n" for machine in ALL))
        await watch.until(lambda: watch.started(streaming, *ALL))
        running = watch.details["streaming"]["results"]
        assert [running[machine]["retcode"] for machine in ALL] == ["", "", ""]
        go.touch()
        runs = [await watch.run(job) for job in ("failing", "locked", "missing")]

        ended = await watch.results(streaming)
        assert {machine: (each.code, each.output) for machine, each in ended.items()} == dict.fromkeys(
            ALL, (0, "first\nlast\n")
        )
        failing, refused, missing = [await watch.results(run) for run in runs]
    assert {machine: (each.code, each.output) for machine, each in failing.items()} == {"m2": (3, "to stderr\n")}
    assert [each.code for each in refused.values()] == [126, 126]
    for each in refused.values():
        assert each.output.startswith("Wrapper execution failed:\n")
        assert "Permission denied" in each.output
    assert missing["m1"].code == 127
    assert "No such file or directory" in missing["m1"].output


async def test_a_timeout_ends_the_whole_tree(daemon: Daemon) -> None:
    daemon.write(
        slow={"command": "echo begun; (sleep 900 & setsid sleep 901 & wait) | cat", "timeout": 2, "kill_grace": 1}
    )
    await daemon.start()
    async with daemon.watching("slow") as watch:
        run = await watch.run("slow")
        ended = await watch.results(run)
        receipts = (await watch.client.request("getRun", {"job_instance": run}))["results"]
    for machine, each in ended.items():
        assert (each.code, each.end) == (124, "timeout")
        assert each.output == "begun\n[Job exceeded timeout of 2 seconds]\n"
        assert each.ended_at - each.started_at > timedelta(seconds=1.9)  # the start is noted a moment late
        assert len(receipts[machine]["receipt"]["ended"]) >= 3
    assert daemon.commands() == []


async def test_without_a_wrapper_salt_alone_runs_it(daemon: Daemon) -> None:
    without = {"use_wrapper": False, "kill_grace": 1, "targets": ["m1", "m2"]}
    daemon.write(
        plain={**without, "command": "echo out; echo err >&2; exit 5"},
        plain_slow={**without, "command": "echo begun; sleep 900", "timeout": 3},
        plain_killed={**without, "command": "sleep 900 | cat"},
    )
    await daemon.start()
    async with daemon.watching("plain", "plain_slow", "plain_killed") as watch:
        plain, slow, killed = [await watch.run(job) for job in ("plain", "plain_slow", "plain_killed")]
        await eventually(lambda: len(daemon.commands("plain_killed")) >= 2 * 3)
        await watch.kill("plain_killed")

        ended = await watch.results(plain)
        assert {machine: (each.code, each.output) for machine, each in ended.items()} == dict.fromkeys(
            ("m1", "m2"), (5, "out\nerr\n")
        )
        assert [(each.code, each.end) for each in (await watch.results(killed)).values()] == [(143, "killed")] * 2
        assert [(each.code, each.end) for each in (await watch.results(slow)).values()] == [(124, "timeout")] * 2
    await eventually(lambda: not daemon.commands())


async def test_a_dead_machine_does_not_delay_the_others(daemon: Daemon, salt_lab: LabHandle) -> None:
    daemon.configure(respond_within=6)
    await salt_lab.call(salt_lab.lab.stop_minion, "m3")
    try:
        await daemon.start()
        slot = (datetime.now(timezone.utc) + timedelta(seconds=4)).replace(microsecond=0)
        daemon.write(
            due={"command": "echo here", "schedule": f"{slot:%-S %-M %-H} * * *", "timezone": "UTC", "retries": 0}
        )
        async with daemon.watching() as watch:
            await watch.until(lambda: "due" in watch.config.get("crons", {}))
            await watch.client.request("subscribe", "due")
            ended = await watch.results(f"due_{slot.timestamp():.0f}")
    finally:
        await salt_lab.call(salt_lab.lab.start_minion, "m3")
    for machine in ("m1", "m2"):
        assert (ended[machine].code, ended[machine].output) == (0, "here\n")
        assert ended[machine].started_at - slot < timedelta(seconds=4)  # half a second, where nothing else runs
    assert (ended["m3"].code, ended["m3"].end) == (255, "no_response")
    assert ended["m3"].output.strip() == "Target did not respond"
    assert ended["m3"].ended_at - slot < timedelta(seconds=25)


async def test_a_restart_of_the_master_changes_no_outcome(
    daemon: Daemon, salt_lab: LabHandle, wrapper_file: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late.sh"  # Salt's answer, which ends phase 1, comes when the master is down
    late.write_text(f'#!/bin/sh\necho reached >>{tmp_path}/reached\nsleep 3\nexec {wrapper_file} "$@"\n')
    late.chmod(0o755)
    journal = tmp_path / "journal"
    command = f"echo $SP_JOB_NAME >>{journal}; sleep 6; echo done"
    daemon.write(
        second_phase={"command": command},
        first_phase={"command": command, "wrapper_path": str(late)},
        while_down={"command": command},
    )
    await daemon.start()
    async with daemon.watching("second_phase", "first_phase", "while_down") as watch:
        runs = [await watch.run("second_phase")]
        await watch.until(lambda: watch.started(runs[0], *ALL))
        runs.append(await watch.run("first_phase"))
        reached = tmp_path / "reached"
        await eventually(lambda: reached.exists() and len(reached.read_text().splitlines()) == len(ALL))
        await salt_lab.call(salt_lab.lab.stop_master)
        runs.append(await watch.run("while_down"))
        await eventually(lambda: len(journal.read_text().splitlines()) == 2 * len(ALL))
        await salt_lab.call(salt_lab.lab.start_master)
        for run in runs:
            ended = await watch.results(run)
            assert {machine: (each.code, each.output) for machine, each in ended.items()} == dict.fromkeys(
                ALL, (0, "done\n")
            )
    assert sorted(journal.read_text().split()) == sorted(["second_phase", "first_phase", "while_down"] * len(ALL))
    await salt_lab.call(salt_lab.lab.answering, ALL)
