"""Orders that come late, again, changed, to the wrong machine, or from somebody else than the daemon."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.job import SecretSource
from saltpeter.domain.order import wrapper_env
from saltpeter.domain.outcome import End
from saltpeter.engine.launcher import StartWrapper
from saltpeter.engine.signing import signed
from saltpeter.errors import LaunchError
from sp_wrapper import seal
from sp_wrapper.authority import BESIDE, MOST_S
from tests.helpers.bottle import bottle, fleet, job, now
from tests.helpers.fake_launcher import FakeLauncher
from tests.wrapper.conftest import Machine
from tests.wrapper.daemon import Daemon

RUN = "backup_1762346049"


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; the public one has `.pub` added to its name."""
    return new_key(tmp_path_factory.mktemp("keys") / "order_key")


@pytest.fixture
def strict(tmp_path: Path, wrapper_file: Path, daemon: Daemon, key: Path) -> Iterator[Machine]:
    """A machine whose wrapper has the daemon's public key beside it."""
    (tmp_path / "bin").mkdir()
    file = Path(shutil.copy(wrapper_file, tmp_path / "bin"))
    shutil.copy(key.with_suffix(".pub"), str(file) + BESIDE)
    Path(str(file) + BESIDE).chmod(0o644)
    made = Machine(tmp_path / "state", (str(file),), f"ws://127.0.0.1:{daemon.port}/ws")
    yield made
    made.end_everything()


def new_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def signature(text: bytes, key: Path, purpose: str) -> str:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", purpose, "-f", str(key)]
    made = subprocess.run(command, input=text, capture_output=True, check=True)
    return "".join(made.stdout.decode().splitlines()[1:-1])


@attrs.frozen
class Ordered:
    machine: Machine
    env: Mapping[str, str]
    beside: Path  # the public key on the machine

    @property
    def unsigned(self) -> dict[str, str]:
        return {name: self.env[name] for name in self.env[seal.NAMES].split(",")}

    async def start(self, **changed: str) -> tuple[int, str]:
        """Start the wrapper with the order, or a changed one; "" leaves a variable out."""
        env = {**self.env, "PATH": "/usr/bin:/bin", "SP_STATEDIR": str(self.machine.statedir)}
        env = {**env, "SP_MACHINE_ID": "m1", **changed}
        return await self.machine.ask(env={name: value for name, value in env.items() if changed.get(name) != ""})


@pytest.fixture
async def ordered(strict: Machine, key: Path) -> Ordered:
    wanted = attrs.evolve(job(env={"COLOUR": "gr ü n\n"}), command='printf %s "$COLOUR"')
    plain = wrapper_env(
        wanted,
        run=RUN,
        attempt=1,
        token="t",
        url=strict.url,
        expires_at=datetime.now(timezone.utc) + timedelta(hours=1),
    )
    env = await signed({**plain, "SP_WRAPPER_LOGDIR": ""}, RUN, ["m1", "m2"], str(key))
    return Ordered(strict, env, Path(strict.command[0] + BESIDE))


async def test_a_signed_order_is_carried_out_once(ordered: Ordered, daemon: Daemon) -> None:
    assert await ordered.start() == (0, f"sp_wrapper 1.0.0 started {RUN}\n")
    assert (await daemon.end_of(RUN)).retcode == 0
    assert daemon.output[RUN].decode() == "gr ü n\n"
    code, said = await ordered.start()
    assert (code, "claimed on this machine before" in said) == (254, True)


async def test_of_several_orders_only_those_are_carried_out_that_are_signed(ordered: Ordered, daemon: Daemon) -> None:
    orders = {
        "good": ordered.env,
        "unsigned": {**ordered.unsigned, "SP_JOB_INSTANCE": "backup_1"},
        "changed": {**ordered.env, "SP_COMMAND": "rm -rf /"},
        "renamed": {**ordered.env, "SP_MACHINE_ID": "m2"},
    }
    env = {"PATH": "/usr/bin:/bin", "SP_STATEDIR": str(ordered.machine.statedir), "SP_MACHINE_ID": "m1"}
    command = [*ordered.machine.command, "--orders"]
    done = await trio.run_process(command, stdin=json.dumps(orders).encode(), env=env, capture_stdout=True)
    said = {line["order"]: line["code"] for line in map(json.loads, done.stdout.splitlines())}
    assert said == {"good": 0, "unsigned": 255, "changed": 255, "renamed": 254}, "which machine it is on no order says"
    assert (await daemon.end_of(RUN)).retcode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SP_COMMAND", "rm -rf /"),
        ("SP_USER", "nobody"),
        ("SP_CWD", "/usr"),
        ("SP_JOB_NAME", "other"),
        ("SP_JOB_INSTANCE", "backup_1762346050"),
        ("SP_ATTEMPT", "2"),
        ("SP_TIMEOUT", "1"),
        pytest.param("SP_EXPIRES", str(int(time.time()) + 7200), id="SP_EXPIRES-later"),
        ("SP_WEBSOCKET_URL", "ws://evil.example/"),
        ("SP_TOKEN", "mine"),
        ("SP_MACHINES", ""),
        ("COLOUR", "red"),
        ("SP_ALLOW_OVERLAP", "1"),  # which was not there
        ("SP_REPORT_FOR_S", "1"),
        ("SP_SECRETS", "PATH"),
        ("SP_SIGNED", "SP_COMMAND"),
        ("SP_SIGNATURE", ""),
        ("SP_SIGNATURE", "AAAA"),
        ("SP_MACHINE_ID", "m3"),
    ],
)
async def test_a_change_anywhere_is_noticed(name: str, value: str, ordered: Ordered, daemon: Daemon) -> None:
    code, said = await ordered.start(**{name: value})
    assert code == 255
    assert said.startswith("sp_wrapper 1.0.0 does not accept this order: ") or name == "SP_MACHINES"
    assert not (ordered.machine.statedir / "runs").exists()
    assert daemon.connections == 0


async def test_another_key_does_not_count(ordered: Ordered, tmp_path: Path) -> None:
    env = await signed(ordered.unsigned, RUN, ["m1"], str(new_key(tmp_path / "other")))
    code, said = await attrs.evolve(ordered, env=env).start()
    assert (code, "is not by an order key of this machine" in said) == (255, True)


async def test_a_signature_for_another_purpose_does_not_count(ordered: Ordered, key: Path) -> None:
    text = seal.text(ordered.unsigned, list(ordered.unsigned), str.encode)
    assert (await ordered.start(SP_SIGNATURE=signature(text, key, "git")))[0] == 255
    assert (await ordered.start(SP_SIGNATURE=signature(text, key, seal.NAMESPACE)))[0] == 0


@pytest.mark.parametrize("mode", [0o666, 0o664])
async def test_a_key_that_others_could_change_is_no_key(ordered: Ordered, mode: int) -> None:
    ordered.beside.chmod(mode)
    code, said = await ordered.start()
    assert (code, "could be changed by others" in said) == (255, True)


async def test_a_key_behind_a_link_is_no_key(ordered: Ordered, key: Path) -> None:
    ordered.beside.unlink()
    ordered.beside.symlink_to(key.with_suffix(".pub"))
    code, said = await ordered.start()
    assert (code, "cannot be read" in said) == (255, True)


async def test_several_keys_may_count_while_one_replaces_the_other(ordered: Ordered, tmp_path: Path) -> None:
    new = new_key(tmp_path / "new").with_suffix(".pub")
    ordered.beside.write_text("# the new one, and the old one\n" + new.read_text() + ordered.beside.read_text())
    assert (await ordered.start())[0] == 0


@pytest.mark.parametrize(
    ("left_s", "problem"),
    [(-60, "it expired 6"), (MOST_S + 60, "is the clock right?"), (float("nan"), "SP_EXPIRES must say")],
)
async def test_an_order_has_its_time(machine: Machine, left_s: float, problem: str) -> None:
    code, said = await machine.start("job_1", "true", SP_EXPIRES=str(time.time() + left_s))
    assert (code, problem in said) == (255, True)
    assert (await machine.start("job_1", "true", SP_EXPIRES=str(time.time() + 60)))[0] == 0


async def test_an_order_of_a_daemon_that_sets_no_time_is_accepted(machine: Machine, daemon: Daemon) -> None:
    assert (await machine.start("job_1", "true"))[0] == 0
    assert (await daemon.end_of("job_1")).outcome == "exited"


# --- the daemon's side ---------------------------------------------------------------------------


def given(machines: FakeLauncher, name: str) -> list[StartWrapper]:
    return [call for _, call in machines.machines[name].acted_on if isinstance(call, StartWrapper)]


async def test_an_order_that_is_given_again_is_a_new_one(autojump_clock: MockClock) -> None:
    """It may have waited long for the master: its time begins when it is handed out."""
    machines = fleet("m1")
    machines.master_up = False
    async with bottle(job(), machines=machines) as b:
        machines.master_up = True
        machines.publish_times_out = True  # it goes out, and nobody knows
        run = await b.runs.run("backup", "test")
        await trio.sleep(0.5)
        machines.publish_times_out = False
        await b.ended(run)
        [order] = given(machines, "m1")
        assert now().timestamp() < float(order.env["SP_EXPIRES"]) <= now().timestamp() + 3600


async def test_what_cannot_be_signed_is_not_launched() -> None:
    machines = fleet("m1")
    async with bottle(job(), machines=machines, order_key="/nowhere/order_key") as b:
        outcome = (await b.see())["m1"]
    assert (outcome.end, outcome.code) == (End.FAILED, 255)
    assert "order_key: /nowhere/order_key cannot sign" in outcome.text
    assert not given(machines, "m1")


async def test_an_order_that_is_for_too_many_machines_says_so(key: Path) -> None:
    with pytest.raises(LaunchError, match="batch_size"):
        await signed({}, RUN, [f"m{number}" for number in range(20_001)], str(key))


async def test_the_largest_order_fits_into_a_variable(key: Path) -> None:
    env = await signed({"SP_COMMAND": "true"}, RUN, [f"m{number}" for number in range(20_000)], str(key))
    assert len(env["SP_MACHINES"]) + len("SP_MACHINES=") < 128 * 1024


async def test_secrets_are_only_named_in_an_order(key: Path) -> None:
    wanted = job(secret_env={"PASSWORD": SecretSource(file="/etc/secret")})
    env = wrapper_env(wanted, run=RUN, attempt=1, token="t", url="ws://x/", expires_at=now())
    assert "SP_SECRETS" in (await signed(env, RUN, ["m1"], str(key)))[seal.NAMES].split(",")
