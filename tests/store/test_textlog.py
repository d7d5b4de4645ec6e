"""The text logs: one line for one fact, whatever a job is called and whatever a command prints."""

from __future__ import annotations

import logging
import os
import stat
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from saltpeter.domain.events import (
    CameLate,
    Confirmed,
    Ended,
    ExecutionId,
    KillRequested,
    LedgerEvent,
    Reason,
    Retrying,
    RunEnded,
    RunStarted,
    SlotPassed,
    Started,
)
from saltpeter.domain.outcome import KILLED, End, Outcome
from saltpeter.domain.verdict import Verdict
from saltpeter.store import textlog
from saltpeter.store.facts import Fact
from saltpeter.store.ledger import facts_of
from saltpeter.store.output import name_of
from saltpeter.store.process import END_S
from saltpeter.store.rules import RULES
from saltpeter.store.sqlite import open_store
from saltpeter.store.streams import StreamName
from saltpeter.store.textlog import LineCutter, Output, TextLogs, describe, file_name, shown

AT = datetime(2025, 11, 5, 12, 34, 9, tzinfo=timezone.utc)
STAMP = "2025-11-05T12:34:09.000+00:00"
RUN = "backup_1762346049"
DB01 = ExecutionId(RUN, "db01")
HERE = name_of(DB01)
BEGUN = RunStarted(run=RUN, job="backup", slot=AT, by="schedule", token="secret", at=AT)


def write(logs: TextLogs) -> None:
    """Write all that is queued."""
    logs._flush()


def news(logs: TextLogs, *told: LedgerEvent | bytes) -> None:
    """What is new of DB01; its output begins with the first bytes."""
    begin = 0
    for each in told:
        if isinstance(each, bytes):
            logs.output(Output(HERE, begin, each, AT))
            begin += len(each)
        else:
            logs.facts(facts_of([each]))


def last_characters(directory: Path) -> dict[str, str]:
    """Of each line of each file."""
    return {path.name: "".join(line[-1] for line in path.read_text().splitlines()) for path in directory.iterdir()}


def test_a_run_reads_as_a_story(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path / "logs")
    second = ExecutionId(RUN, "db01", 2)
    news(
        logs,
        SlotPassed(job="backup", slot=AT, reason=Reason.OVERLAP, text="the last run lives", at=AT),
        BEGUN,
        Confirmed(execution=DB01, at=AT),
        Started(execution=DB01, pid=4711, version="1", at=AT),
        b"dumping\r\n50 %\t\xc3",
        b"\xa4\nhalf a",
        KillRequested(run=RUN, machines=(), by="ann", at=AT),
        KillRequested(run=RUN, machines=("db01", "db02"), by="bob", at=AT),
        Ended(execution=DB01, outcome=KILLED, at=AT),
        Retrying(execution=second, at=AT),
        CameLate(execution=second, outcome=Outcome(end=End.EXITED, code=3), at=AT),
        RunEnded(run=RUN, verdict=Verdict.KILLED, at=AT),
    )
    write(logs)
    assert (tmp_path / "logs" / "backup.log").read_text().splitlines() == [
        f"{STAMP} {RUN} - did not run: overlap the last run lives",
        f"{STAMP} {RUN} - started by schedule",
        f"{STAMP} {RUN} db01 started (PID: 4711)",
        f"{STAMP} {RUN} db01 dumping",
        f"{STAMP} {RUN} db01 50 %\tä",
        f"{STAMP} {RUN} - kill requested by ann",
        f"{STAMP} {RUN} db01 kill requested by bob",
        f"{STAMP} {RUN} db02 kill requested by bob",
        f"{STAMP} {RUN} db01 half a",
        f"{STAMP} {RUN} db01 [Job terminated by user request]",
        f"{STAMP} {RUN} db01 ended: killed (exit code: 143)",
        f"{STAMP} {RUN} db01 trying again (attempt 2)",
        f"{STAMP} {RUN} db01 reported late: exited (exit code: 3)",
        f"{STAMP} {RUN} - ended: killed",
    ]
    assert stat.S_IMODE((tmp_path / "logs" / "backup.log").stat().st_mode) & 0o007 == 0


def test_no_output_forges_a_line_or_moves_the_cursor(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path)
    news(
        logs,
        b"\x1b[2J\rgone\x0b\xff\xe2\x80\xae\n",
        Started(execution=ExecutionId(RUN, "evil\nhost"), pid=1, version="", at=AT),
    )
    write(logs)
    assert (tmp_path / "backup.log").read_text().splitlines() == [
        f"{STAMP} {RUN} db01 \\x1b[2J\\rgone\\x0b\\xff\\u202e",
        f"{STAMP} {RUN} evil\\nhost started (PID: 1)",
    ]


def test_a_full_file_is_rotated_and_old_ones_go(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path, max_bytes=150, keep=2)
    for number in range(10):
        news(logs, b"number %d\n" % number)
        write(logs)
    assert last_characters(tmp_path) == {"backup.log": "89", "backup.log.1": "67", "backup.log.2": "45"}
    nothing_kept = TextLogs(tmp_path, max_bytes=150, keep=0)
    news(nothing_kept, b"number 10\n")
    write(nothing_kept)
    assert (tmp_path / "backup.log").read_text().count("\n") == 1


def test_no_file_is_renamed_over_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is, ext4 writes to the disk at once: a flood of output would be in the way of all commits."""
    rename = Path.rename
    free: list[bool] = []

    def noting(path: Path, target: Path) -> Path:
        free.append(not target.exists())
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", noting)
    monkeypatch.setattr(Path, "replace", None)
    logs = TextLogs(tmp_path, max_bytes=10, keep=2)
    for number in range(5):
        news(logs, b"number %d\n" % number)
        write(logs)
    assert free == [True] * (1 + 2 * 3)


def test_trouble_is_said_once_and_goes_by(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path / "dir")
    (tmp_path / "dir").write_text("in the way")
    said: list[str] = []
    for _ in range(3):
        news(logs, b"lost\n")
        write(logs)
        said += logs.complaints()
    (tmp_path / "dir").unlink()
    news(logs, b"kept\n")
    write(logs)
    said += logs.complaints()
    assert [each.partition(":")[0] for each in said] == ["they cannot be written"]
    assert (tmp_path / "dir" / "backup.log").read_text().endswith("kept\n")


def test_what_cannot_be_read_costs_no_other_lines(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path)
    logs.facts([Fact("ended", RUN, 0, "db01", 1, text="not JSON")])
    write(logs)
    news(logs, b"kept\n")
    write(logs)
    assert len(logs.complaints()) == 1
    assert (tmp_path / "backup.log").read_text().endswith("kept\n")


@pytest.mark.parametrize("kind", RULES)
def test_of_each_kind_of_fact_it_is_known_whether_it_is_told(kind: str) -> None:
    more = '{"first_us": 0, "reason": "held", "machines": []}'
    told = list(describe(Fact(kind, RUN, 0, number=0, text='{"end": "exited", "code": 0}', more=more, job="backup")))
    assert all(entry.text for entry in told)


def test_a_slow_disk_costs_lines_and_not_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textlog, "MAX_QUEUED", 1000)
    logs = TextLogs(tmp_path)
    for number in range(100):
        news(logs, b"%03d\n" % number)
    write(logs)
    written = (tmp_path / "backup.log").read_text()
    assert len(written) <= 1000
    assert logs.complaints() == [f"they fell behind, {100 - written.count(chr(10))} lines are missing"]
    news(logs, b"room again\n")
    write(logs)
    assert (tmp_path / "backup.log").read_text().endswith("room again\n")


def test_several_slots_that_did_not_run_are_one_line(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path)
    slots = [AT + timedelta(minutes=number) for number in range(3)]
    missed = [SlotPassed(job="backup", slot=slot, reason=Reason.MISSED, text="", at=AT) for slot in slots]
    logs.facts(facts_of(missed))
    write(logs)
    [line] = (tmp_path / "backup.log").read_text().splitlines()
    assert line == f"{STAMP} {RUN} - did not run, nor did any up to backup_1762346169: missed"


def test_output_that_is_missing_joins_no_lines() -> None:
    cutter = LineCutter()
    assert cutter.feed(HERE, 0, b"one\nbegun") == [b"one"]
    assert cutter.feed(HERE, 100, b"of another\nthree") == [b"begun", b"of another"]
    assert cutter.finish(HERE) == [b"three"]


def test_lines_are_written_while_more_may_come(tmp_path: Path) -> None:
    logs = TextLogs(tmp_path)
    thread = threading.Thread(target=logs.run)
    thread.start()
    try:
        news(logs, b"one\n")
        while "backup.log" not in last_characters(tmp_path):  # the disk has a clock of its own
            assert thread.is_alive()
        news(logs, b"two\n")
    finally:
        logs.close()
        thread.join()
    assert last_characters(tmp_path) == {"backup.log": "eo"}


@pytest.mark.trio
async def test_the_store_copies_what_has_become_durable_and_nothing_twice(tmp_path: Path) -> None:
    async with open_store(tmp_path / "state", now=lambda: AT, logdir=tmp_path / "logs") as store:
        await store.commit(BEGUN, Retrying(execution=DB01, at=AT))
        await store.append(DB01, 0, b"one\n", b"two\nth")
        await store.append(DB01, 4, b"two\n", b"three\n", b"four")
        await store.commit(Ended(execution=DB01, outcome=KILLED, at=AT))
    lines = (tmp_path / "logs" / "backup.log").read_text().splitlines()
    heads, texts = zip(*(line.split(" ", 3)[0:4:3] for line in lines), strict=True)
    assert set(heads) == {STAMP}
    assert texts == (
        "started by schedule",
        *("trying again (attempt 1)", "one", "two", "three", "four"),
        *("[Job terminated by user request]", "ended: killed (exit code: 143)"),
    )


@pytest.mark.trio
async def test_nothing_waits_for_the_text_logs(tmp_path: Path) -> None:
    """Not even where a file of theirs takes nothing, and never says so."""
    (tmp_path / "logs").mkdir()
    os.mkfifo(tmp_path / "logs" / "backup.log")
    begun = trio.current_time()
    async with open_store(tmp_path / "state", now=lambda: AT, logdir=tmp_path / "logs") as store:
        await store.commit(BEGUN)
        for number in range(10):
            await store.append(DB01, 2 * number, b"x\n")
            await trio.sleep(textlog.GATHER_S / 5)  # so that it has begun to write
        assert await store.length(DB01) == 20
    assert trio.current_time() - begun < END_S  # else it was killed


@pytest.mark.trio
async def test_the_daemon_says_what_the_text_logs_lack(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").write_text("in the way")
    caplog.set_level(logging.ERROR)
    async with open_store(tmp_path / "state", now=lambda: AT, logdir=tmp_path / "logs") as store:
        await store.commit(BEGUN)
        with trio.fail_after(10):
            while not caplog.records:  # it is said with whatever is written next
                await store.commit(Retrying(execution=DB01, at=AT))
    assert "The text logs lack something: they cannot be written: " in caplog.text


@given(st.lists(st.sampled_from([b"a", b"\n", b"bc", b"\r\n", b"x" * 9000]), max_size=12), st.data())
def test_lines_do_not_depend_on_how_the_output_was_cut(parts: list[bytes], data: st.DataObject) -> None:
    output, cutter = b"".join(parts), LineCutter()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(output)), max_size=6)))
    blocks = []
    for start, end in zip([0, *cuts], [*cuts, len(output)], strict=True):
        blocks += cutter.feed(HERE, start, output[start:end])
        assert cutter.feed(StreamName(RUN, "db02", 1), 0, b"") == []
    blocks += cutter.finish(HERE)
    lines = [line for block in blocks for line in block.split(b"\n")]
    assert b"".join(lines) == output.replace(b"\n", b"")
    assert len(lines) >= output.count(b"\n")
    assert cutter.finish(HERE) == []


@given(
    st.lists(st.sampled_from([b"plain", b"\ttab", b"\r", b"\r\n", b"\n", b"\x1b[1m", b"\xc3\xa4", b"\xff", b"\xc3"]))
)
def test_a_block_shows_what_its_lines_would_one_by_one(parts: list[bytes]) -> None:
    block = b"".join(parts)
    assert shown(block) == b"\n".join(shown(line) for line in block.split(b"\n"))
    assert shown(block).count(b"\n") == block.count(b"\n")
    assert all(character.isprintable() or character in "\t\n" for character in shown(block).decode())


@given(st.text(max_size=300))
def test_a_jobs_name_is_never_a_path(job: str) -> None:
    name = file_name(job)
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..")
    assert len(name.encode()) <= 255


def test_different_jobs_have_different_files() -> None:
    jobs = ["a/b", "a%2Fb", "a", "a.log", "", "..", "x" * 500, "x" * 501, "ä" * 100, "ä" * 101]
    assert len({file_name(job) for job in jobs}) == len(jobs)
    assert file_name("nightly backup") == "nightly backup.log"
