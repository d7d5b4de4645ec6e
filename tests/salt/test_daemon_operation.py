"""What operators do with a running daemon, and what it tells them: on a real master and three minions."""

from __future__ import annotations

import os
import pwd
import re
import signal
import time

import pytest

from tests.helpers.daemon import Daemon, eventually

pytestmark = pytest.mark.salt

ALL = ["m1", "m2", "m3"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run commands as somebody else")
async def test_the_commands_surroundings(daemon: Daemon) -> None:
    show = "id -u; id -g; id -G; pwd; echo $HOME; echo $GREETING; env | grep ^SP_ | sort"
    daemon.write(
        surroundings={"command": show, "user": "nobody", "cwd": "/usr/share", "env": {"GREETING": "salve, {{ munde }}"}}
    )
    await daemon.start()
    async with daemon.watching("surroundings") as watch:
        run = await watch.run("surroundings")
        ended = await watch.results(run)
    nobody = pwd.getpwnam("nobody")
    groups = " ".join(map(str, os.getgrouplist("nobody", nobody.pw_gid)))
    seen = [nobody.pw_uid, nobody.pw_gid, groups, "/usr/share", nobody.pw_dir, "salve, {{ munde }}"]
    own = [f"SP_JOB_INSTANCE={run}", "SP_JOB_NAME=surroundings"]
    for each in ended.values():
        assert each.output.splitlines() == [*map(str, seen), *own]


async def test_jobs_are_taken_up_while_it_runs(daemon: Daemon) -> None:
    daemon.write("steady", steady={"command": "echo steady", "targets": "m1"})
    await daemon.start()
    async with daemon.watching() as watch:

        async def in_force(job: str) -> float:
            begun = time.monotonic()
            await watch.until(lambda: job in watch.config.get("crons", {}))
            return time.monotonic() - begun

        await in_force("steady")
        daemon.write("added", added={"command": "echo added", "targets": "m1"})
        assert await in_force("added") < 2

        (daemon.conf_d / "broken.yaml").write_text("broken: [\n")
        await eventually(lambda: "broken.yaml" in daemon.log())
        daemon.write("added", added={"command": "echo changed", "targets": "m1"})
        await watch.until(lambda: watch.config["crons"]["added"]["command"] == "echo changed")
        assert {"steady", "added"} <= watch.config["crons"].keys()
        [problem] = watch.config["problems"]
        assert problem["path"].endswith("broken.yaml")

        await watch.client.request("subscribe", ["steady", "added"])
        for job, output in (("steady", "steady\n"), ("added", "changed\n")):
            [ended] = (await watch.results(await watch.run(job))).values()
            assert (ended.code, ended.output) == (0, output)

        daemon.process.send_signal(signal.SIGHUP)
        await eventually(lambda: "Reload asked for by SIGHUP" in daemon.log())
        assert "added" in watch.config["crons"]
    assert await daemon.signal(signal.SIGTERM) == 0


Lines = list[tuple[str, dict[str, object]]]  # a pattern for the text, and some of what stands beside it

IN_ORDER: Lines = [  # in the log of `scenario`
    (r"Firing {run}!", {"event": "run.started", "job": "known"}),
    (r"Waiting for Salt to confirm wrapper execution for job \d{{20}}_[0-9a-f]+\.\.\.", {"event": "launch.published"}),
    (r"WebSocket: Client connected - {run}:m1", {"event": "wrapper.connected", "machine": "m1"}),
    (r"WebSocket: Job started - {run}:m1 \(PID: \d+\)", {"event": "wrapper.started", "machine": "m1"}),
    (r"WebSocket: Heartbeat from {run}:m1 at \d{{4}}-\S+", {"event": "wrapper.heartbeat"}),
    (r"WebSocket: Kill command received for job known", {"event": "kill.requested", "job": "known"}),
    (r"WebSocket: Sent kill signal to {run}:m1", {"event": "kill.sent"}),
    (r"WebSocket: Received complete message from {run}:m1, retcode=143", {"event": "wrapper.reported", "code": 143}),
    (r"WebSocket: Updated state for known\[m1\] with endtime=\S+, retcode=143", {"event": "execution.ended"}),
    (r"WebSocket: Target m1 completed, removing from pending \(retcode: 143\)", {"event": "target.completed"}),
    (r"WebSocket: All targets completed for known, exiting monitor loop", {"event": "run.ended", "verdict": "killed"}),
]
ANYWHERE: Lines = [  # these do not wait for one another
    (r"Salt confirmed wrapper started on m1", {"event": "execution.confirmed", "machine": "m1"}),
    (r"Monitoring WebSocket results for 1 confirmed target\(s\)\.\.\.", {"event": "launch.confirmed", "machines": 1}),
    (r"WebSocket: Job completed - {run}:m1 \(exit code: 143\)", {"event": "wrapper.completed", "code": 143}),
    (r"Wrapper execution failed on m2 \(retcode=127\): .*No such file.*", {"event": "execution.refused", "code": 127}),
]


async def scenario(daemon: Daemon) -> str:
    """A job that lives for a heartbeat and is killed, after one that cannot be launched. The first one's run."""
    daemon.write(
        known={"command": "sleep 900", "targets": "m1"},
        unlaunchable={"command": "true", "wrapper_path": "/nowhere/sp_wrapper.py", "targets": "m2"},
    )
    await daemon.start("--debug")
    async with daemon.watching("known", "unlaunchable") as watch:
        await watch.results(await watch.run("unlaunchable"))
        run = await watch.run("known")
        await eventually(lambda: f"Heartbeat from {run}:m1" in daemon.log().partition(f"Job started - {run}:m1")[2])
        await watch.kill("known")
        await watch.results(run)
    await eventually(lambda: f"Job completed - {run}:m1" in daemon.log())
    return run


async def test_the_log_has_the_lines_that_operators_know(daemon: Daemon) -> None:
    run = await scenario(daemon)
    texts = [line.split(" ", 2)[2] for line in daemon.log().splitlines()]
    position = -1
    for pattern, _ in IN_ORDER:
        begin = position + 1
        found = [at for at, text in enumerate(texts) if at >= begin and re.fullmatch(pattern.format(run=run), text)]
        assert found, pattern
        position = found[0]
    for pattern, _ in ANYWHERE:
        assert any(re.fullmatch(pattern.format(run=run), text) for text in texts), pattern


async def test_the_log_as_json_has_the_same_lines_and_their_facts(daemon: Daemon) -> None:
    daemon.configure(log_format="json")
    run = await scenario(daemon)
    events = daemon.events()
    for pattern, facts in (*IN_ORDER, *ANYWHERE):
        matching = [event for event in events if re.fullmatch(pattern.format(run=run), event["text"])]
        assert any(facts.items() <= event.items() for event in matching), (pattern, matching)
    assert {"time", "level", "logger", "event", "text"} <= set.intersection(*map(set, events))
    ended = {"run": run, "machine": "m1", "code": 143, "end": "killed"}
    assert any(ended.items() <= event.items() for event in events if event["event"] == "execution.ended")
