"""Where machines prove themselves by their minions' keys, nobody speaks for another one: not even first."""

from __future__ import annotations

import base64
from pathlib import Path

import attrs
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from trio.testing import MockClock

from saltpeter.domain.events import ExecutionId
from saltpeter.endpoints.machines import MachinesEndpoint
from saltpeter.engine.execution import BadToken, NotProven
from saltpeter.engine.identity import check
from saltpeter.engine.launcher import StartWrapper
from sp_wrapper import identity, seal, wire
from tests.attacks.test_impostors import about, begun
from tests.endpoints.rig import dial
from tests.helpers.bottle import bottle, fleet, job, now
from tests.helpers.memory_store import MemoryStore
from tests.wrapper.conftest import Machine
from tests.wrapper.daemon import Daemon

RUN = ExecutionId("backup_1762346049", "m1")


@attrs.frozen
class Keys:
    """The keys of two minions; of their public halves, `folder` is what the master has accepted."""

    folder: Path
    private: dict[str, rsa.RSAPrivateKey] = attrs.field(factory=dict)

    def make(self, machine: str) -> None:
        self.private[machine] = key = rsa.generate_private_key(65537, 2048)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.folder / machine).write_bytes(public)

    def proof(self, of: ExecutionId, secret: str, by: str = "") -> str:
        """That `of` is the machine's own, by its key or by that of another one."""
        text = seal.claimed(of.run, of.machine, of.attempt, secret)
        return base64.b64encode(self.private[by or of.machine].sign(text, padding.PKCS1v15(), SHA256())).decode()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    made = Keys(tmp_path_factory.mktemp("minions"))
    made.make("m1")
    made.make("m2")
    (made.folder / "other kind").write_bytes(
        ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (made.folder / "no key").write_text("-----BEGIN")
    return made


def test_a_proof_is_of_one_secret_of_one_attempt_of_one_run_on_one_machine(keys: Keys) -> None:
    proof = keys.proof(RUN, "s")
    check(str(keys.folder), RUN, "s", proof)
    for other in (attrs.evolve(RUN, run="other_1"), attrs.evolve(RUN, attempt=2), attrs.evolve(RUN, machine="m2")):
        with pytest.raises(NotProven, match="is not by the key of"):
            check(str(keys.folder), other, "s", proof)
    for secret, shown in (("t", proof), ("", proof), ("s", proof[:-8]), ("s", "ü"), ("s", "A" * 10_000)):
        with pytest.raises(NotProven, match="is not by the key of m1"):
            check(str(keys.folder), RUN, secret, shown)
    with pytest.raises(NotProven, match="is not by the key of m1"):
        check(str(keys.folder), RUN, "s", keys.proof(RUN, "s", by="m2"))


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("m3", "m3 cannot be read: No such file"),
        ("no key", "holds no public key"),
        ("other kind", "holds no RSA key"),
        *((name, "no machine of Salt's can be called") for name in ("../m1", "", ".", "..", "/etc/passwd", "m1\0")),
    ],
)
def test_a_machine_whose_key_is_not_there_proves_nothing(machine: str, said: str, keys: Keys) -> None:
    with pytest.raises(NotProven, match=said):
        check(str(keys.folder), attrs.evolve(RUN, machine=machine), "s", keys.proof(RUN, "s"))


async def test_nobody_is_first_for_another_machine(keys: Keys, autojump_clock: MockClock) -> None:
    """Nor for one that has not spoken yet, whatever it knows of the run."""
    store, machines = MemoryStore(), fleet("m1", "m2")
    async with bottle(job(), machines=machines, store=store, machine_keys=str(keys.folder)) as b:
        run, token = await begun(b, "m1", "m2")
        m1, m2 = ExecutionId(run, "m1"), ExecutionId(run, "m2")
        for proof in ("", keys.proof(m1, "theirs", by="m2"), keys.proof(m2, "theirs")):
            with pytest.raises(NotProven):
                await b.roster.find(run, "m1", 1, token, "theirs", proof=proof)
        execution = await b.roster.find(run, "m1", 1, token, "its own", proof=keys.proof(m1, "its own"))
        await execution.tell_the_ledger()
        assert await b.roster.find(run, "m1", 1, token, "its own") is execution, "once is enough"
        with pytest.raises(BadToken):
            await b.roster.find(run, "m1", 1, token, "theirs", proof=keys.proof(m1, "its own"))
    async with bottle(job(), machines=machines, store=store, machine_keys=str(keys.folder)) as b:
        await trio.lowlevel.checkpoint()
        await b.roster.find(run, "m1", 1, token, "its own")
        with pytest.raises(NotProven):
            await b.roster.find(run, "m2", 1, token, "its own")


async def test_who_proves_nothing_is_told_so(keys: Keys, autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet("m1"), machine_keys=str(keys.folder)) as b:
        run, token = await begun(b)
        async with dial(MachinesEndpoint(b.roster, now).front(), "/") as peer:
            await peer.say(**about(run), type="connect", token=token, secret="s", sent=0)
            refusal = await peer.hear()
            assert (refusal["code"], "nothing proves that it is on m1" in refusal["message"]) == ("BAD_TOKEN", True)
        async with dial(MachinesEndpoint(b.roster, now).front(), "/") as peer:
            proof = keys.proof(ExecutionId(run, "m1"), "s")
            await peer.say(**about(run), type="connect", token=token, secret="s", sent=0, proof=proof)
            assert (await peer.hear())["ack_type"] == "connect"


@pytest.mark.parametrize("executor", ["salt", "local"])
async def test_machines_are_asked_where_there_are_minions(executor: str, keys: Keys, autojump_clock: MockClock) -> None:
    machines = fleet("m1")
    async with bottle(job(), machines=machines, executor=executor, machine_keys=str(keys.folder)) as b:
        run, token = await begun(b)
        [order] = [call for _, call in machines.machines["m1"].acted_on if isinstance(call, StartWrapper)]
        assert ("SP_PROVE_MACHINE" in order.env) == (executor == "salt")
        if executor == "local":
            await b.roster.find(run, "m1", 1, token, "its own")


# --- on the machine ------------------------------------------------------------------------------


async def test_a_wrapper_proves_where_it_is(keys: Keys, machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    (key := tmp_path / "minion.pem").write_bytes(
        keys.private["m1"].private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    await machine.start("job_1", "env; cat /proc/$PPID/cmdline", SP_PROVE_MACHINE="1", SP_MACHINE_KEY=str(key))
    await daemon.end_of("job_1")
    [hello] = daemon.of("job_1", wire.Connect)
    check(str(keys.folder), ExecutionId("job_1", "m1"), hello.secret, hello.proof)
    assert hello.proof not in repr(hello)
    assert str(key).encode() not in daemon.output["job_1"]


@pytest.mark.parametrize("content", [None, "no key"])
async def test_a_machine_without_its_key_says_so_and_reports_all_the_same(
    content: str | None, machine: Machine, daemon: Daemon, tmp_path: Path
) -> None:
    """The daemon decides what that is worth."""
    key, logs = tmp_path / "minion.pem", tmp_path / "logs"
    logs.mkdir()
    if content is not None:
        key.write_text(content)
    wanted = {"SP_PROVE_MACHINE": "1", "SP_MACHINE_KEY": str(key), "SP_WRAPPER_LOGDIR": str(logs)}
    await machine.start("job_1", "true", **wanted)
    await daemon.end_of("job_1")
    assert {hello.proof for hello in daemon.of("job_1", wire.Connect)} == {""}
    assert f"{key} cannot prove on which machine this is" in (logs / "sp_wrapper.log").read_text()


async def test_an_order_that_names_no_key_starts_nothing(machine: Machine) -> None:
    code, said = await machine.start("job_1", "true", SP_PROVE_MACHINE="1")
    assert (code, "SP_MACHINE_KEY is not set" in said) == (255, True)


async def test_a_machine_without_openssl_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "PROGRAMS", ("/nowhere/openssl",))
    from sp_wrapper.order import parse

    order = parse({**machine.env("job_1", "true", {}), "SP_PROVE_MACHINE": "1", "SP_MACHINE_KEY": "/etc/minion.pem"})
    with pytest.raises(identity.NoProof, match="there is no openssl"):
        identity.prove(order)
