from __future__ import annotations

import json
import logging
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from saltpeter.domain.events import ExecutionId
from saltpeter.endpoints.machines import FIRST_FRAME_S, MachinesEndpoint
from saltpeter.endpoints.session import BACKLOG_MESSAGES, SILENCE_S, SILENCE_SLACK_S
from saltpeter.engine.execution import BadToken, Link, UnknownExecution
from sp_wrapper import frames, wire
from sp_wrapper.link import Timing
from tests.endpoints.rig import NOON, Peer, dial, now

COMMIT_S = 0.05
DB01 = ExecutionId("backup_1762346049", "db01")
SESAME = "sesame"
WHO = {"job_name": "backup", "job_instance": "backup_1762346049", "machine": "db01", "timestamp": NOON.isoformat()}


@attrs.define(eq=False)
class Watched:
    """An execution that keeps what it is told; each commit takes its time."""

    id: ExecutionId = DB01
    job_name: str = "backup"
    held: bytes = b""
    cut: int = 0
    beats: list[float] = attrs.field(factory=list)
    told: list[object] = attrs.field(factory=list)
    link: Link | None = None
    pending: wire.Kill | None = None
    commit_s: float = COMMIT_S
    reading_s: float = 0.0  # how long it takes to read its secrets

    def connected(self, link: Link, hello: wire.Connect) -> None:
        self.link = link
        if self.pending is not None:
            link.tell(self.pending)

    def disconnected(self, link: Link) -> None:
        if self.link is link:
            self.link = None

    def beat(self, heartbeat: wire.Heartbeat) -> None:
        self.beats.append(trio.current_time())

    async def secrets(self) -> wire.Secrets:
        await trio.sleep(self.reading_s)
        self.told.append("secrets")
        return wire.Secrets(env={"PASSWORD": "hunter2"})

    async def started(self, start: wire.Start) -> None:
        self.told.append(start)

    async def length(self) -> int:
        await trio.lowlevel.checkpoint()
        return len(self.held) + self.cut

    async def output(self, *stretch: wire.Output) -> int:
        await trio.sleep(self.commit_s)
        for output in stretch:
            assert output.offset is not None
            assert output.offset - output.cut <= len(self.held) + self.cut
            self.cut += output.cut
            self.held += output.data[len(self.held) + self.cut - output.offset :]
        return len(self.held) + self.cut

    async def log(self, log: wire.Log) -> None:
        self.told.append(log)

    async def completed(self, complete: wire.Complete) -> None:
        await trio.sleep(self.commit_s)
        self.told.append(complete)


@attrs.define
class Known:
    """A roster of one execution."""

    watched: Watched
    token: str = SESAME

    async def find(
        self, instance: str, machine: str, attempt: int, token: str, secret: str = "", *, proof: str = ""
    ) -> Watched:
        if ExecutionId(instance, machine, attempt) != self.watched.id:
            raise UnknownExecution
        if token != self.token:
            raise BadToken
        return self.watched


async def connect(peer: Peer, token: str = SESAME, **more: Any) -> dict[str, Any]:
    await peer.say(**{**WHO, "type": "connect", "version": "1.0", "token": token, "sent": 0, **more})
    return await peer.hear()


async def test_a_run_from_connect_to_complete(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watched = Watched()
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        hello = await connect(wrapper)
        assert (hello["type"], hello["ack_type"], hello["offset"]) == ("ack", "connect", 0)
        await wrapper.say(**WHO, type="start", pid=12345)
        assert (await wrapper.hear())["ack_type"] == "start"
        await wrapper.say(**WHO, type="output", seq=0, offset=0, data="one\n")
        assert {key: hello[key] for key in ("job_name", "job_instance", "machine")} == {
            key: WHO[key] for key in ("job_name", "job_instance", "machine")
        }
        ack = await wrapper.hear()
        assert (ack["ack_type"], ack["seq"]) == ("output", 0)
        await wrapper.say(**WHO, type="heartbeat")
        await wrapper.say(**WHO, type="output", seq=1, offset=4, data="two\n")
        await wrapper.say(**WHO, type="complete", retcode=143, outcome="killed", seq=2, length=8)
        assert (await wrapper.hear())["seq"] == 1
        ack = await wrapper.hear()
        assert (ack["ack_type"], ack["seq"]) == ("complete", 2)
    assert watched.held == b"one\ntwo\n"
    assert len(watched.beats) == 1
    assert [type(told) for told in watched.told] == [wire.Start, wire.Complete]
    assert [text for text in caplog.messages if text.startswith("WebSocket: ")] == [
        "WebSocket: Client connected - backup_1762346049:db01",
        "WebSocket: Job started - backup_1762346049:db01 (PID: 12345)",
        "WebSocket: Received complete message from backup_1762346049:db01, retcode=143",
        "WebSocket: Job completed - backup_1762346049:db01 (exit code: 143)",
    ]


async def test_a_wrapper_that_wants_secrets_is_told_them(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with dial(MachinesEndpoint(Known(Watched()), now).front(), "/") as wrapper:
        assert (await connect(wrapper, wants_secrets=True))["ack_type"] == "connect"
        told = await wrapper.hear()
        assert (told["type"], told["env"], told["error"]) == ("secrets", {"PASSWORD": "hunter2"}, "")
    assert "hunter2" not in caplog.text


async def test_reading_secrets_holds_up_nothing(autojump_clock: MockClock) -> None:
    watched = Watched(reading_s=25)
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper, wants_secrets=True)
        for _ in range(5):
            await trio.sleep(5)
            await wrapper.say(**WHO, type="heartbeat")
        assert (await wrapper.hear())["type"] == "secrets"
    assert len(watched.beats) == 5


async def test_a_wrapper_that_leaves_is_not_read_for(autojump_clock: MockClock) -> None:
    watched = Watched(reading_s=25)
    endpoint = MachinesEndpoint(Known(watched), now)
    async with dial(endpoint.front(), "/") as wrapper:
        await connect(wrapper, wants_secrets=True)
    async with dial(endpoint.front(), "/") as wrapper:
        await connect(wrapper)
        assert await wrapper.hear_all(40) == []
    assert watched.told == []


async def test_heartbeats_are_logged_for_those_who_look(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "saltpeter")
    async with dial(MachinesEndpoint(Known(Watched()), now).front(), "/") as wrapper:
        await connect(wrapper)
        await wrapper.say(**WHO, type="heartbeat")
        await wrapper.hear_all(1)
    assert "WebSocket: Heartbeat from backup_1762346049:db01 at 2026-11-20T12:00:00+00:00" in caplog.messages


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"type": "connect", "token": "wrong"}, "BAD_TOKEN"),
        ({"type": "connect", "token": SESAME, "machine": "db02"}, "JOB_NOT_FOUND"),
        ({"type": "connect", "token": SESAME, "attempt": 2}, "JOB_NOT_FOUND"),
        ({"type": "connect", "token": SESAME, "job_name": "other"}, "JOB_NOT_FOUND"),
        ({"type": "start", "pid": 1}, "PROTOCOL"),
        ({"type": "heartbeat"}, "PROTOCOL"),
        ({"type": "connect", "token": "x" * 20_000}, "PROTOCOL"),
        ({"type": "nonsense"}, "PROTOCOL"),
    ],
)
async def test_strangers_are_told_why_and_shown_out(
    first: dict[str, Any], code: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched()
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as stranger:
        await stranger.say(**{**WHO, **first})
        refusal = await stranger.hear()
        assert (refusal["type"], refusal["code"]) == ("error", code)
        assert await stranger.hear_end() == 1008
    assert watched.link is None
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_who_says_nothing_is_shown_out(autojump_clock: MockClock) -> None:
    async with dial(MachinesEndpoint(Known(Watched()), now).front(), "/") as silent:
        assert (await silent.hear())["code"] == "PROTOCOL"
        assert trio.current_time() == FIRST_FRAME_S


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        json.dumps({**WHO, "type": "heartbeat", "machine": "db02"}),
        json.dumps({**WHO, "type": "output", "seq": "x"}),
        json.dumps({**WHO, "type": "connect", "token": SESAME}),
    ],
)
async def test_breaking_the_protocol_ends_one_connection_only(text: str, autojump_clock: MockClock) -> None:
    watched = Watched()
    other = Watched(ExecutionId("backup_1762346049", "db02"))
    good, bad = MachinesEndpoint(Known(other), now), MachinesEndpoint(Known(watched), now)
    async with dial(good.front(), "/") as patient, dial(bad.front(), "/") as vandal:
        await connect(patient, machine="db02")
        await connect(vandal)
        await vandal.say(**WHO, type="output", seq=0, offset=0, data="accepted")
        await vandal.ws.send_message(text)
        assert (await vandal.hear())["ack_type"] == "output"
        assert (await vandal.hear())["code"] == "PROTOCOL"
        assert await vandal.hear_end() == 1008
        await patient.say(**{**WHO, "machine": "db02"}, type="start", pid=1)
        assert (await patient.hear())["ack_type"] == "start"
    assert watched.held == b"accepted"


async def test_a_pending_kill_follows_the_ack_of_connect(autojump_clock: MockClock) -> None:
    watched = Watched(pending=wire.Kill(grace=7.0))
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        assert (await connect(wrapper))["ack_type"] == "connect"
        kill = await wrapper.hear()
        assert (kill["type"], kill["signal"], kill["grace"]) == ("kill", "TERM", 7.0)


async def test_many_messages_are_on_their_way_at_once(autojump_clock: MockClock) -> None:
    """Each commit takes its time, and yet a thousand messages take a few commits only."""
    watched = Watched()
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say_outputs, wrapper, 1000)
            acked = -1
            while acked < 999:
                newly = (await wrapper.hear())["seq"]
                assert newly > acked
                acked = newly
    assert watched.held == b"x" * 1000
    assert trio.current_time() < 2 * COMMIT_S * 1000 / BACKLOG_MESSAGES


async def say_outputs(wrapper: Peer, count: int) -> None:
    for number in range(count):
        await wrapper.say(**WHO, type="output", seq=number, offset=number, data="x")


async def test_heartbeats_do_not_wait_for_commits(autojump_clock: MockClock) -> None:
    watched = Watched(commit_s=1000)
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        await wrapper.say(**WHO, type="output", seq=0, offset=0, data="x")
        for _ in range(3):
            await trio.sleep(5)
            await wrapper.say(**WHO, type="heartbeat")
        await wrapper.hear_all(1)
        assert watched.beats == [5, 10, 15]


async def test_a_start_is_said_before_the_heartbeats_that_follow_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "saltpeter")
    async with dial(MachinesEndpoint(Known(Watched(commit_s=1000)), now).front(), "/") as wrapper:
        await connect(wrapper)
        await wrapper.say(**WHO, type="output", seq=0, offset=0, data="x")  # the disk is busy with it
        await wrapper.say(**WHO, type="start", pid=12345)
        await wrapper.say(**WHO, type="heartbeat")
        await wrapper.hear_all(1)
    said = [text.split()[1] for text in caplog.messages if text.startswith("WebSocket: ")]
    assert said[:3] == ["Client", "Job", "Heartbeat"]


async def test_gaps_are_nacked_and_repeats_acked(autojump_clock: MockClock) -> None:
    async with dial(MachinesEndpoint(Known(Watched()), now).front(), "/") as wrapper:
        await connect(wrapper)
        await wrapper.say(**WHO, type="output", seq=0, offset=0, data="abc")
        assert (await wrapper.hear())["seq"] == 0
        await wrapper.say(**WHO, type="output", seq=2, offset=5, data="f")
        nack = await wrapper.hear()
        assert (nack["type"], nack["expected_seq"], nack["received_seq"]) == ("nack", 1, 2)
        await wrapper.say(**WHO, type="output", seq=0, offset=0, data="abc")
        assert (await wrapper.hear())["seq"] == 0


async def test_a_lost_connection_loses_nothing_that_arrived(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        await wrapper.say(**WHO, type="output", seq=0, offset=0, data="last words")
        await wrapper.say(**WHO, type="complete", retcode=0)
    assert watched.held == b"last words"
    assert isinstance(watched.told[-1], wire.Complete)
    assert watched.link is None


async def test_a_new_connection_takes_over_from_a_dead_one(autojump_clock: MockClock) -> None:
    watched = Watched()
    front = MachinesEndpoint(Known(watched), now).front()
    async with dial(front, "/") as dead:
        await connect(dead)
        await dead.say(**WHO, type="output", seq=0, offset=0, data="abc")
        async with dial(front, "/") as alive:
            assert (await connect(alive))["offset"] == 3  # though it was not durable yet
            living = watched.link
            assert await dead.hear_end() == 1006
            assert watched.link is living is not None
            await alive.say(**WHO, type="output", seq=0, offset=3, data="def")
            assert (await alive.hear())["seq"] == 0
    assert watched.held == b"abcdef"


async def test_a_disk_that_is_full_keeps_nobody_out(autojump_clock: MockClock) -> None:
    watched = Watched(commit_s=1000)
    front = MachinesEndpoint(Known(watched), now).front()
    async with dial(front, "/") as waiting_for_its_ack:
        await connect(waiting_for_its_ack)
        await waiting_for_its_ack.say(**WHO, type="output", seq=0, offset=0, data="abc")
        await trio.sleep(30)
        async with dial(front, "/") as again:
            with trio.fail_after(Timing().connect_s):
                assert (await connect(again))["offset"] == 0
            await again.say(**WHO, type="heartbeat")
            await again.say(**WHO, type="output", seq=1, offset=0, data="abcdef")
            await trio.sleep(1)
            assert watched.beats
            await trio.sleep(2500)
    assert watched.held == b"abcdef"


async def test_silence_ends_a_connection(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        await trio.sleep(30)
        await wrapper.say(**WHO, type="heartbeat")
        assert await wrapper.hear_end() == 1000
        assert trio.current_time() == 30 + SILENCE_S + SILENCE_SLACK_S
    assert watched.link is None


async def test_a_wrapper_of_the_old_kind(autojump_clock: MockClock) -> None:
    """It shows no token, knows no offsets, and after a reconnect goes on as if nothing had happened."""
    watched = Watched()
    front = MachinesEndpoint(Known(watched, token=""), now, allow_legacy=True).front()
    async with dial(front, "/") as wrapper:
        await wrapper.say(**WHO, type="connect")
        assert (await wrapper.hear())["ack_type"] == "connect"
        await wrapper.say(**WHO, type="sync_request", last_acked_seq=-1, next_seq=0)  # no answer: it would give up
        await wrapper.say(**WHO, type="output", seq=0, data="abc")
        assert (await wrapper.hear())["seq"] == 0
    async with dial(front, "/") as wrapper:
        await wrapper.say(**WHO, type="output", seq=0, data="abc")
        assert (await wrapper.hear())["seq"] == 0
        await wrapper.say(**WHO, type="output", seq=2, data="ghi")
        assert (await wrapper.hear())["expected_seq"] == 1
        await wrapper.say(**WHO, type="sync_request", last_acked_seq=-1, next_seq=0)
        assert (await wrapper.hear())["last_seq"] == 0
        await wrapper.say(**WHO, type="output", seq=1, data="def")
        assert (await wrapper.hear())["seq"] == 1
        await wrapper.say(**WHO, type="complete", retcode=0, seq=2)
        assert (await wrapper.hear())["ack_type"] == "complete"
    assert watched.held == b"abcdef"


async def test_the_wrappers_own_words_are_kept(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        await wrapper.say(**WHO, type="log", level="debug", text="reading")
        await wrapper.say(**WHO, type="error", error="cannot read")
        await wrapper.say(**WHO, type="killed", receipt={"signalled": [{"pid": 7, "name": "sleep"}]})
        await wrapper.hear_all(1)
    assert watched.told == [wire.Log(text="reading", level="debug"), wire.Log(text="cannot read", level="error")]


connections = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=12), st.floats(0, 0.2)), max_size=5
)


@given(st.binary(min_size=1, max_size=120), connections)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_on_the_way_the_output_is_exact(
    command: bytes, attempts: list[tuple[list[tuple[int, int]], float]]
) -> None:
    """Connections that repeat, skip and break off anywhere; the last one delivers what the daemon lacks."""

    async def main() -> Watched:
        watched = Watched()
        front = MachinesEndpoint(Known(watched), now).front()
        for sends, linger_s in attempts:
            async with dial(front, "/") as wrapper:
                base = (await connect(wrapper))["offset"]
                for seq, (back, size) in enumerate(sends):
                    start = max(0, base + 20 - back)
                    await say_bytes(wrapper, seq, start, command[start : start + size])
                await trio.sleep(linger_s)
        async with dial(front, "/") as wrapper:
            held = (await connect(wrapper))["offset"]
            await say_bytes(wrapper, 99, held, command[held:])
            await wrapper.say(**WHO, type="complete", retcode=0, length=len(command))
            while (await wrapper.hear())["ack_type"] != "complete":
                pass
        return watched

    watched = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert watched.held == command


async def say_bytes(wrapper: Peer, seq: int, offset: int, data: bytes) -> None:
    about = wire.About("backup", "backup_1762346049", "db01")
    if data or seq == 99:
        await wrapper.ws.send_message(frames.encode(about, wire.Output(seq=seq, data=data, offset=offset), now()))
