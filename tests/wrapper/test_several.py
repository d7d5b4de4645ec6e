"""Several orders in one start of the wrapper: each is taken, and answered, as if it had come alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Mapping

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sp_wrapper import several, wire
from tests.helpers.daemon import eventually
from tests.wrapper.conftest import Machine, alive
from tests.wrapper.daemon import WAIT_S, Daemon

Said = dict[str, tuple[int, str]]


def lines(text: str) -> Said:
    said = [json.loads(line) for line in text.splitlines()]
    return {each["order"]: (each["code"], each["text"]) for each in said}


async def give(machine: Machine, orders: Mapping[str, Mapping[str, str]]) -> Said:
    """As Salt does: the machine's own name in the environment, the orders on stdin."""
    env = {"PATH": os.environ["PATH"], "SP_MACHINE_ID": "m1", "SP_STATEDIR": str(machine.statedir)}
    with trio.fail_after(WAIT_S):
        done = await trio.run_process(
            [*machine.command, "--orders"],
            stdin=json.dumps(orders).encode(),
            env=env,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
        )
    return lines(done.stdout.decode())


def order(machine: Machine, run: str, command: str, **extra: str) -> dict[str, str]:
    own = machine.env(run, command, extra)
    return {name: value for name, value in own.items() if name not in ("PATH", "SP_MACHINE_ID", "SP_STATEDIR")}


async def test_each_order_is_carried_out_and_one_that_is_broken_costs_none_of_the_others(
    machine: Machine, daemon: Daemon
) -> None:
    orders = {str(number): order(machine, f"job{number}_1", f"echo {number}; exit {number}") for number in range(6)}
    del orders["2"]["SP_COMMAND"]
    orders["3"]["SP_EXPIRES"] = "1"
    said = await give(machine, {**orders, "6": orders["5"]})

    assert said["2"] == (255, "sp_wrapper 1.0.0 SP_COMMAND is not set")
    assert said["3"][0] == 255
    assert "does not accept this order: it expired" in said["3"][1]
    assert said["6"] == (254, "sp_wrapper 1.0.0 refused: job5_1 (attempt 1) was claimed on this machine before")
    for number in (0, 1, 4, 5):
        run = f"job{number}_1"
        assert said[str(number)] == (0, f"sp_wrapper 1.0.0 started {run}")
        assert (await daemon.end_of(run)).retcode == number
        assert daemon.output[run] == f"{number}\n".encode()
    connects = [daemon.of(f"job{number}_1", wire.Connect)[0].secret for number in (0, 1, 4, 5)]
    assert len(set(connects)) == 4, "each run's wrapper has a secret of its own"
    await eventually(lambda: not alive(machine.processes("job0_1").supervisor))


async def test_each_command_sees_its_own_environment_only(machine: Machine, daemon: Daemon) -> None:
    orders = {
        "a": order(machine, "one_1", "env", COLOUR="red", SP_ALLOW_OVERLAP="1"),
        "b": order(machine, "two_1", "env", SHAPE="{{ round }}\n'ü'"),
    }
    assert {code for code, _ in (await give(machine, orders)).values()} == {0}
    await daemon.end_of("one_1")
    await daemon.end_of("two_1")
    one, two = daemon.output["one_1"].decode(), daemon.output["two_1"].decode()
    assert ("COLOUR=red\n" in one, "SHAPE" in one, "SP_JOB_NAME=one\n" in one) == (True, False, True)
    assert ("SHAPE={{ round }}\n'ü'\n" in two, "COLOUR" in two, "SP_JOB_NAME=two\n" in two) == (True, False, True)
    assert "SP_TOKEN" not in one + two


async def test_a_lock_is_held_by_the_run_that_took_it_and_by_nobody_else(machine: Machine, daemon: Daemon) -> None:
    """The process that took both orders must not hold the first one's lock, nor the second command."""
    said = await give(
        machine, {"a": order(machine, "short_1", "true"), "b": order(machine, "long_1", "sleep 60", SP_KILL_GRACE="0")}
    )
    assert [code for code, _ in said.values()] == [0, 0]
    await daemon.end_of("short_1")
    await eventually(lambda: not alive(machine.processes("short_1").supervisor))
    code, text = await machine.start("short_2", "true")
    assert (code, text) == (0, "sp_wrapper 1.0.0 started short_2\n")
    code, text = await machine.start("long_2", "true")
    assert (code, "long_1 holds its lock" in text) == (254, True)


async def test_what_is_no_order_is_said_and_nothing_is_done(machine: Machine) -> None:
    command, env = [*machine.command, "--orders"], machine.env("r", "", {})
    for nonsense in (b"", b"[]", b'{"a": 1}', b'{"a": {"SP_COMMAND": 1}}', b"\xff"):
        done = await trio.run_process(command, stdin=nonsense, capture_stdout=True, check=False, env=env)
        assert done.returncode == 255
        assert done.stdout.startswith(b"sp_wrapper: these are no orders: ")
    assert not machine.statedir.exists()


@attrs.define
class Taker:
    """Takes orders, and has a bug about one."""

    taken: list[Mapping[str, str]] = attrs.field(factory=list)

    def __call__(self, environ: Mapping[str, str]) -> tuple[int, str]:
        self.taken.append(environ)
        if "BUG" in environ:
            raise RuntimeError("a bug")
        return int(environ.get("CODE", "0")), "text"


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.dictionaries(st.sampled_from(["A", "BUG", "€", *several.OF_THE_MACHINE]), st.text()),
        max_size=5,
    )
)
def test_there_is_a_line_for_every_order(orders: dict[str, dict[str, str]]) -> None:
    taker, said = Taker(), io.StringIO()
    own = {"SP_MACHINE_ID": "m1", "SP_MACHINE_KEY": ""}
    assert several.main(io.BytesIO(json.dumps(orders).encode()), said, {"HOST": "h", **own}, taker) == 0
    assert taker.taken == [{"HOST": "h", **variables, **own} for variables in orders.values()]
    bug = (255, "the wrapper failed: RuntimeError('a bug')")
    assert lines(said.getvalue()) == {name: bug if "BUG" in env else (0, "text") for name, env in orders.items()}


@given(st.binary())
def test_no_input_crashes_it(data: bytes) -> None:
    assert several.main(io.BytesIO(data), io.StringIO(), {}, Taker()) in (0, 255)


@pytest.mark.parametrize("arguments", [["--orders", "x"], ["--order"]])
async def test_the_option_stands_alone(machine: Machine, arguments: list[str]) -> None:
    code, text = await machine.ask(*arguments)
    assert code == 2
    assert "usage" in text
