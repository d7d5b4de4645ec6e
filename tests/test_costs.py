"""What things cost, by counting and not by timing: a mistake that makes cost grow with the wrong thing shows here."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from saltpeter.domain.events import ExecutionId, LedgerEvent
from saltpeter.domain.outcome import LOST
from saltpeter.domain.verdict import Verdict
from saltpeter.endpoints.channel import Channel, Limits
from saltpeter.endpoints.machines import MachinesEndpoint
from saltpeter.endpoints.outbox import Outbox
from saltpeter.store.readers import Readers
from saltpeter.store.sqlite import SqliteStore, open_store
from saltpeter.store.streams import StreamName
from saltpeter.store.textlog import Output as TextOutput
from saltpeter.store.textlog import TextLogs
from saltpeter.store.writer import Writer
from sp_wrapper import frames, wire
from tests.endpoints.rig import NOON, dial, now
from tests.endpoints.scene import FINE
from tests.endpoints.test_machines import WHO, Known, Watched, connect
from tests.endpoints.test_queries import library
from tests.helpers.bottle import Script, bottle, fleet, job
from tests.helpers.memory_store import MemoryStore
from tests.store.test_sqlite import DB01, started

OURS = ("saltpeter", "sp_wrapper", "websockets", "h11")
TASKS_OF_A_WRAPPER = 1  # and another while something is being made durable


@attrs.define
class CountingStore(MemoryStore):
    calls: Counter[str] = attrs.field(factory=Counter)

    async def commit(self, *events: LedgerEvent) -> None:
        self.calls["commit"] += 1
        await super().commit(*events)

    async def append(
        self, execution: ExecutionId, offset: int, *data: bytes, cut: int = 0, limit: int | None = None
    ) -> int:
        self.calls["append"] += 1
        return await super().append(execution, offset, *data, cut=cut, limit=limit)

    async def length(self, execution: ExecutionId) -> int:
        self.calls["length"] += 1
        return await super().length(execution)


async def commits_of(machines: int) -> Counter[str]:
    """How often a run on so many machines, each of which prints a line, turns to the store."""
    names = [f"m{number}" for number in range(machines)]
    store = CountingStore()
    async with bottle(job(), machines=fleet(*names), store=store) as made:
        for name in names:
            made.play(name, Script(output=b"done\n"))
        before = store.calls.copy()
        assert len(await made.see()) == machines
        return store.calls - before


async def test_commits_of_a_run_grow_with_its_machines_and_no_faster(autojump_clock: MockClock) -> None:
    few, many = await commits_of(10), await commits_of(100)
    assert many["commit"] - few["commit"] == 3 * 90  # confirmed by Salt, started a while later, ended
    assert few["commit"] - 3 * 10 <= 3  # its start with its targets and their launch, its end; the job's first mention
    assert many["append"] == 100


class Counted(Watched):
    """An execution that counts what it is given to make durable."""

    appends = 0

    async def output(self, *stretch: wire.Output) -> int:
        self.appends += 1
        return await super().output(*stretch)


async def test_what_arrives_while_the_disk_is_busy_is_one_commit_and_one_ack(autojump_clock: MockClock) -> None:
    watched = Counted()
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        for seq in range(21):
            await wrapper.say(**WHO, type="output", seq=seq, offset=2 * seq, data="x\n")
        acks = await wrapper.hear_all(5)
    assert watched.held == b"x\n" * 21
    assert watched.appends <= 3
    assert len(acks) == watched.appends
    assert acks[-1]["seq"] == 20


async def test_the_ack_of_a_start_goes_out_with_the_next(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends: list[bytes] = []
    put = Outbox.put

    def noting(outbox: Outbox, data: bytes) -> None:
        sends.append(data)
        put(outbox, data)

    async with dial(MachinesEndpoint(Known(Watched()), now).front(), "/") as wrapper:
        await connect(wrapper)
        monkeypatch.setattr(Outbox, "put", noting)
        await wrapper.say(**WHO, type="output", seq=0, offset=0, data="x\n")
        await wrapper.say(**WHO, type="start", pid=1, version="1.0")  # while that is being made durable
        await wrapper.say(**WHO, type="output", seq=1, offset=2, data="y\n")
        acks = await wrapper.hear_all(1)
        await wrapper.say(**WHO, type="start", pid=1, version="1.0")
        assert (await wrapper.hear())["ack_type"] == "start"
    assert [ack["ack_type"] for ack in acks] == ["output", "start", "output"]
    assert len(sends) == 2 + 1


async def test_a_heartbeat_costs_no_write_no_answer_and_no_task(autojump_clock: MockClock) -> None:
    watched = Counted()
    async with dial(MachinesEndpoint(Known(watched), now).front(), "/") as wrapper:
        await connect(wrapper)
        before = tasks()
        for _ in range(50):
            await wrapper.say(**WHO, type="heartbeat")
        assert await wrapper.hear_all(1) == []
        assert tasks() == before
    assert len(watched.beats) == 50
    assert (watched.appends, watched.told) == (0, [])


def tasks() -> Counter[str]:
    """The tasks that live now, by name."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found, left = Counter[str](), [root]
    while left:
        task = left.pop()
        found[task.name] += 1
        left += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


async def test_a_connected_wrapper_takes_one_task(autojump_clock: MockClock) -> None:
    front = MachinesEndpoint(Known(Watched()), now).front()
    before = ours(tasks())
    async with dial(front, "/") as wrapper:
        await connect(wrapper)
        assert sum((ours(tasks()) - before).values()) == TASKS_OF_A_WRAPPER


def ours(found: Counter[str]) -> Counter[str]:
    return Counter({name: number for name, number in found.items() if name.startswith("saltpeter.")})


async def test_an_ended_connection_leaves_nothing_to_the_garbage_collector(autojump_clock: MockClock) -> None:
    """It would stay for very long: full passes are rare in the daemon."""
    async with garbage() as left, dial(MachinesEndpoint(Known(Watched()), now).front(), "/") as wrapper:
        await connect(wrapper)
        await wrapper.say(**WHO, type="output", seq=0, offset=0, data="x\n")
        assert len(await wrapper.hear_all(1)) == 1
    assert left == []


async def test_a_run_leaves_nothing_to_the_garbage_collector(autojump_clock: MockClock) -> None:
    async with bottle(job(), machines=fleet("m1", "m2")) as made:
        made.play("m1", Script(output=b"done\n"))
        made.play("m2", Script(output=b"done\n"))
        await made.see()
        async with garbage() as left:
            await made.see()
            for wrapper in made.wrappers:
                wrapper.execution.disconnected(wrapper)
            made.wrappers.clear()
            made.runs.means.executions._ended.clear()  # which are kept for latecomers
    assert left == []


@asynccontextmanager
async def garbage() -> AsyncIterator[list[str]]:
    """The types of what of ours, or of a connection's, only the collector would free at the end of the block."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    found: list[str] = []
    try:
        yield found
        await trio.sleep(1)
        gc.collect()
        found += sorted({type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith(OURS)})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@attrs.define(eq=False)
class CountingStream(trio.abc.Stream):
    """Takes what is sent, and counts how often."""

    sends: list[bytes] = attrs.field(factory=list)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sends.append(bytes(data))
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_what_waits_to_be_told_goes_out_together(autojump_clock: MockClock) -> None:
    stream = CountingStream()
    async with trio.open_nursery() as nursery:
        channel = Channel("somebody", stream, Limits(), nursery)
        for number in range(20):
            channel.tell(f"message {number}")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert len(stream.sends) == 1
    assert stream.sends[0].count(b"message") == 20


@pytest.mark.trio
async def test_output_that_begins_is_one_write_and_no_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(started())
        written, read = noted(monkeypatch, Writer, "contribute"), noted(monkeypatch, Readers, "read")
        await store.append(DB01, 0, b"hello\n", limit=1024)
        assert (len(written), len(read)) == (1, 0)


@pytest.mark.trio
async def test_a_machine_is_read_and_told_once_where_none_was_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with library(tmp_path) as lib:
        run = await lib.tell(NOON, Verdict.FAILED, db01=FINE, db02=LOST)
        read_again = noted(monkeypatch, SqliteStore, "attempts")
        told = await lib.queries.run(run)
    assert list(told["results"]) == ["db01", "db02"]
    assert not told["attempts"]
    assert not read_again


def noted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[object]:
    """The calls of a method from now on, which is carried out as ever."""
    calls: list[object] = []
    method = getattr(owner, name)

    async def both(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return await method(*args, **options)

    monkeypatch.setattr(owner, name, both)
    return calls


def test_a_block_of_output_is_one_entry_of_the_text_logs(tmp_path: Path) -> None:
    news = TextOutput(StreamName("backup_1", "db01", 1), 0, b"a line\n" * 10_000, NOON)
    assert len(list(TextLogs(tmp_path)._entries(news))) == 1


def test_a_heartbeat_is_small() -> None:
    frame = frames.encode(wire.About("backup", "backup_1762346049", "db01"), wire.Heartbeat(rss=1, cpu=1.0), NOON)
    assert len(frame) < 250
    assert json.loads(frame)["type"] == "heartbeat"


def test_the_daemon_may_have_as_many_connections_as_the_system_lets_it() -> None:
    code = (
        "import resource; from saltpeter.daemon import raise_file_limit;"
        " hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        " resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)); raise_file_limit();"
        " print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == hard
