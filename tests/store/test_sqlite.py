"""The store as a whole, on real files: what returned is durable, and one's failure is no other's."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from functools import partial
from math import inf
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing
from exceptiongroup import ExceptionGroup
from trio.testing import MockClock

from saltpeter.domain.events import Ended, ExecutionId, Reason, RunEnded, RunStarted, SlotPassed, Targeted
from saltpeter.domain.outcome import End, Outcome
from saltpeter.domain.verdict import Verdict
from saltpeter.engine.storage import History, Piece, Store
from saltpeter.errors import RunTaken, SlotTaken, StoreError
from saltpeter.store import rules, scribe, writer
from saltpeter.store.ledger import facts_of
from saltpeter.store.schema import LEDGER
from saltpeter.store.scribe import Work
from saltpeter.store.sqlite import open_store
from saltpeter.store.streams import OutputGap

NOON = datetime(2025, 11, 5, 12, tzinfo=timezone.utc)
RUN = "backup_1762344000"
DB01 = ExecutionId(RUN, "db01")


def started(run: str = RUN, job: str = "backup", slot: datetime | None = NOON) -> RunStarted:
    return RunStarted(run=run, job=job, slot=slot, by="schedule", token="t", at=slot or NOON)


def targeted(*machines: str) -> Targeted:
    return Targeted(run=RUN, machines=machines, at=NOON)


@pytest.mark.trio
async def test_a_restart_finds_everything_as_it_was(tmp_path: Path) -> None:
    async with open_store(tmp_path / "new" / "state") as store:
        await store.commit(started(), targeted("db01", "db02"))
        await store.append(DB01, 0, b"so far")
        await store.log(DB01, NOON, "info", "connected")
    async with open_store(tmp_path / "new" / "state") as store:
        [run] = await store.unfinished()
        assert (run.id, run.open, run.executions["db01"].output_length) == (RUN, 2, 6)
        assert await store.append(DB01, 0, b"so far, so good") == 15
        outcome = Outcome(end=End.EXITED, code=0)
        await store.commit(
            Ended(execution=DB01, outcome=outcome, at=NOON), RunEnded(run=RUN, verdict=Verdict.FAILED, at=NOON)
        )
    async with open_store(tmp_path / "new" / "state") as store:
        assert await store.unfinished() == []
        [run] = await store.last_runs()
        assert run.executions["db01"].outcome == outcome
        assert (await store.run(RUN), await store.run("x_1")) == (run, None)
        assert await store.last_slots() == {"backup": NOON}
        assert [each.output_length for each in await store.attempts(RUN)] == [15, 0]
        assert [line.text for line in await store.logs(DB01)] == ["connected"]
        assert await store.pieces(DB01, 0) == [Piece(0, b"so far"), Piece(1, b", so good")]
        as_engine: Store = store  # mypy sees to it that one class keeps both promises
        as_people: History = store
        assert await as_engine.length(DB01) == (await as_people.attempts(RUN))[0].output_length


@pytest.mark.trio
async def test_all_of_a_commit_or_nothing(tmp_path: Path) -> None:
    skipped = SlotPassed(job="report", slot=NOON, reason=Reason.OVERLAP, text="", at=NOON)
    async with open_store(tmp_path) as store:
        await store.commit(started())
        with pytest.raises(SlotTaken):
            await store.commit(skipped, started(run="backup_7"))
        with pytest.raises(RunTaken):
            await store.commit(skipped, started(slot=None))
        assert await store.passed("report") == []
        assert [run.id for run in await store.runs()] == [RUN]


@pytest.mark.trio
async def test_a_refused_one_costs_its_group_nothing(tmp_path: Path) -> None:
    """All of them arrive at once, and so wait for the same commits."""
    slots = [NOON + timedelta(seconds=number // 2) for number in range(100)]
    taken: list[int] = []

    async def commit(number: int) -> None:
        try:
            await store.commit(started(run=f"backup_{number}", slot=slots[number]))
        except SlotTaken:
            taken.append(number)

    async with open_store(tmp_path) as store:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(commit, number)
        assert sorted(run.slot for run in await store.runs() if run.slot) == slots[::2]
        assert len(taken) == 50


def waiting_for(pipe: Path) -> Work[None]:
    """What keeps the process that writes busy, until it may go on."""
    os.mkfifo(pipe)
    return partial(read, path=pipe)


def read(_connection: sqlite3.Connection, path: Path) -> None:
    path.read_bytes()


async def let_go_on(pipe: Path) -> None:
    await trio.Path(pipe).write_bytes(b"")


@pytest.mark.trio
async def test_one_who_stops_waiting_knows_what_became_of_it(tmp_path: Path) -> None:
    """Cancelled means that it is not written, nor will be; what has begun to be written returns all the same."""
    written: list[str] = []

    async def commit(machine: str) -> None:
        work = partial(rules.record, facts=facts_of([targeted(machine)]))
        await store.ledger_writer.submit(store.places.ledger, work)
        written.append(machine)

    async with open_store(tmp_path) as store, trio.open_nursery() as others:
        await store.commit(started())
        others.start_soon(store.ledger_writer.submit, store.places.ledger, waiting_for(tmp_path / "busy"))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await commit("too late")
        await let_go_on(tmp_path / "busy")
        await store.commit()  # comes after that
        for turns in range(12):  # some of them have begun by then; which ones is chance
            with trio.CancelScope() as impatient:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(commit, f"m{turns}")
                    await trio.sleep(turns * writer.PACE_S / 6)
                    impatient.cancel()
        await store.commit()  # comes after all that
        [run] = await store.unfinished()
        assert sorted(run.executions) == sorted(written)
        assert "m11" in written
        assert "too late" not in written


@pytest.mark.trio
async def test_a_fact_is_written_whoever_stops_waiting(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        with trio.move_on_after(0):
            await store.commit(started())
        assert [run.id for run in await store.unfinished()] == [RUN]


async def test_who_waits_for_a_disk_that_hangs_is_told_after_a_minute(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What it is busy with is still waited for, and what is asked of it later is done."""
    async with open_store(tmp_path) as store, trio.open_nursery() as others:
        await store.commit(started())
        others.start_soon(store.ledger_writer.submit, store.places.ledger, waiting_for(tmp_path / "hangs"))
        await trio.sleep(1)
        asked_at = trio.current_time()
        with pytest.raises(StoreError, match="did not answer within 60 seconds"):
            await store.commit(targeted("too late"))
        assert trio.current_time() - asked_at == 60
        autojump_clock.autojump_threshold, autojump_clock.rate = inf, 1  # who writes is about to need real time
        others.start_soon(store.commit, targeted("in time"))
        await trio.lowlevel.checkpoint()
        await let_go_on(tmp_path / "hangs")
    async with open_store(tmp_path) as store:
        [run] = await store.unfinished()
        assert list(run.executions) == ["in time"]


@pytest.mark.trio
async def test_the_end_waits_for_what_was_handed_over(tmp_path: Path) -> None:
    with trio.CancelScope() as stop:
        async with open_store(tmp_path) as store, trio.open_nursery() as nursery:
            await store.commit(started())
            for number in range(2000):  # more than one group
                nursery.start_soon(store.commit, targeted(f"m{number}"))
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            stop.cancel()
    with pytest.raises(StoreError, match="closed"):
        await store.commit(targeted("late"))
    async with open_store(tmp_path) as store:
        [run] = await store.unfinished()
        assert len(run.executions) == 2000


def stumble(connection: sqlite3.Connection, *, at: datetime) -> None:
    raise ZeroDivisionError(connection, at)


async def test_a_bug_in_the_writer_ends_it_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await _write_with_a_bug(tmp_path)
    assert raised.group_contains(RuntimeError, match="ZeroDivisionError")


async def _write_with_a_bug(directory: Path) -> None:
    async with open_store(directory) as store:
        store.ledger_writer.seal = stumble
        with pytest.raises(StoreError, match="closed before"):
            await store.commit(started())
        await trio.sleep_forever()


@pytest.mark.trio
async def test_output_of_an_unknown_run_is_refused_and_looks_empty(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        with pytest.raises(StoreError, match="does not know"):
            await store.append(DB01, 0, b"x")
        assert await store.length(DB01) == 0
        await store.commit(started())
        assert (await store.length(DB01), await store.pieces(DB01, 0), await store.logs(DB01)) == (0, [], [])
        with pytest.raises(OutputGap):
            await store.append(DB01, 5, b"x")
        assert await store.append(DB01, 0, b"x") == await store.length(DB01) == 1


@pytest.mark.trio
async def test_a_limit_is_for_one_execution(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(started())
        for execution, limit in ((DB01, 4), (ExecutionId(RUN, "db02"), None)):
            for offset, piece in enumerate(b"abcdef"):
                await store.append(execution, offset, bytes([piece]), limit=limit)
            await store.note(execution, "[end]")
        assert b"".join(piece.data for piece in await store.pieces(DB01, 0)).startswith(b"ab\n[SALTPETER: 2 bytes")
        assert len(await store.pieces(ExecutionId(RUN, "db02"), 0)) == 7


@pytest.mark.trio
async def test_each_day_has_a_file_of_its_own_that_only_we_may_read(tmp_path: Path) -> None:
    days = [NOON + timedelta(days=number) for number in range(scribe.MAX_OPEN + 3)]
    async with open_store(tmp_path) as store:
        executions = [ExecutionId(f"daily_{day.timestamp():.0f}", "m") for day in days]
        for execution, day in zip(executions, days, strict=True):
            await store.commit(started(execution.run, "daily", day))
        for data in (b"a", b"ab"):  # the second time, the first files have been closed again
            for execution in executions:
                await store.append(execution, 0, data)
        for execution in executions:
            assert await store.pieces(execution, 0) == [Piece(0, b"a"), Piece(1, b"b")]
    names = sorted(path.name for path in (tmp_path / "output").iterdir())
    assert names[:2] == ["output-20251105.sqlite", "output-20251106.sqlite"]
    assert len(names) == len(days)  # and no journals are left behind
    for path in (tmp_path / "ledger.sqlite", *(tmp_path / "output").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.trio
async def test_reads_see_the_last_commit_while_the_next_is_written(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(started())
        other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.commit, targeted("db01"))
            with trio.fail_after(2):
                [run] = await store.unfinished()
            assert run.executions == {}
            other.execute("ROLLBACK")
        other.close()
        [run] = await store.unfinished()
        assert list(run.executions) == ["db01"]


@pytest.mark.trio
async def test_the_directory_is_for_one_daemon(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        with pytest.raises(StoreError, match="in use"):
            async with open_store(tmp_path):
                raise AssertionError
    async with open_store(tmp_path):
        pass


@pytest.mark.trio
async def test_a_directory_that_cannot_be_used_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        async with open_store(tmp_path / "file"):
            raise AssertionError


@pytest.mark.trio
async def test_a_newer_ledger_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.execute(f"PRAGMA user_version = {len(LEDGER) + 1}")
    connection.close()
    with pytest.raises(StoreError, match="newer"):
        async with open_store(tmp_path):
            raise AssertionError


def let_files_grow(_connection: sqlite3.Connection, to: int | None = None) -> None:
    """In who writes; what goes past it fails, as on a full disk. None is as far as they may at all."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most if to is None else to, most))


async def test_a_full_disk_is_an_error_until_there_is_room_again(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.commit(started())
        await store.append(DB01, 0, b"before")
        day = store.places.output("20251105")
        await store.output_writer.submit(day, partial(let_files_grow, to=128 * 1024))
        for _ in range(3):
            with pytest.raises(StoreError):
                await store.append(DB01, 6, bytes(1024 * 1024))
        assert await store.length(DB01) == 6
        await store.output_writer.submit(day, let_files_grow)
        assert await store.append(DB01, 6, b" and after") == 16
        assert b"".join(piece.data for piece in await store.pieces(DB01, 0)) == b"before and after"


COMMITTER = """
import sys
from pathlib import Path
import trio
from tests.store.test_sqlite import RUN, started, targeted
from saltpeter.domain.events import ExecutionId
from saltpeter.store.sqlite import open_store

async def machine(store, name):
    execution = ExecutionId(RUN, name)
    await store.commit(targeted(name, name + "-twin"))
    print(name, -1, flush=True)
    length = 0
    while True:
        length = await store.append(execution, length, b"%010d" % length * 100)
        print(name, length, flush=True)

async def main():
    async with open_store(Path(sys.argv[1])) as store, trio.open_nursery() as nursery:
        await store.commit(started())
        for number in range(5):
            nursery.start_soon(machine, store, f"m{number}")
trio.run(main)
"""


@pytest.mark.trio
async def test_what_returned_survives_kill_9(tmp_path: Path) -> None:
    for lines in (1, 150):  # said before the kill
        statedir = tmp_path / str(lines)
        said = commit_until_killed(statedir, lines)
        async with open_store(statedir) as store:
            [run] = await store.unfinished()
            for name, execution in run.executions.items():
                assert f"{name.removesuffix('-twin')}-twin" in run.executions
                written = b"".join(piece.data for piece in await store.pieces(execution.id, 0, 100_000))
                assert written == b"".join(b"%010d" % at * 100 for at in range(0, len(written), 1000))
                assert execution.output_length == len(written)
            for name, length in said:
                assert run.executions[name].output_length >= length


def commit_until_killed(statedir: Path, lines: int) -> list[tuple[str, int]]:
    command = [sys.executable, "-c", COMMITTER, str(statedir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().split() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += [line.split() for line in process.stdout if line.endswith("\n")]
    return [(name, int(length)) for name, length in said]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.trio
async def test_the_state_directory_is_its_owners(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    statedir = tmp_path / "above" / "state"
    before = os.umask(0o000)
    try:
        async with open_store(statedir) as store:
            await store.commit(started(), targeted("db01"))
            await store.append(DB01, 0, b"x")
            files = [path for path in statedir.rglob("*") if path.is_file() and path.suffix != ".lock"]
            assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    finally:
        os.umask(before)
    assert stat.S_IMODE(statedir.stat().st_mode) == 0o700
    assert not caplog.messages


@pytest.mark.trio
@pytest.mark.parametrize(
    ("mode", "said"), [(0o755, "look into"), (0o770, "change"), (0o702, "change"), (0o710, None), (0o500 | 0o200, None)]
)
async def test_who_else_may_do_something_there_is_said(
    mode: int, said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (statedir := tmp_path / "state").mkdir()
    statedir.chmod(mode)
    async with open_store(statedir):
        pass
    expected = [
        f"{statedir}: others on this host may {said} the state directory; `chmod 700 {statedir}` keeps them out"
    ]
    assert caplog.messages == (expected if said else [])
    assert stat.S_IMODE(statedir.stat().st_mode) == mode, "it may be anybody's"
