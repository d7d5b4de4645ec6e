from __future__ import annotations

import errno
import os
from math import inf
from pathlib import Path

import pytest

from sp_wrapper import channel, claim, journal, state
from sp_wrapper.order import Order, parse
from sp_wrapper.reporters import Reporters
from sp_wrapper.timer import Timer
from tests.wrapper.conftest import names
from tests.wrapper.test_order import LEAST


def test_a_timer_stands_still_while_paused() -> None:
    timer = Timer(10)
    timer.start(100)
    assert timer.due_at == 110
    timer.pause(104)
    timer.pause(106)  # a second pause changes nothing
    assert (timer.paused, timer.due_at, timer.due(10**9)) == (True, inf, False)
    timer.resume(200)
    timer.resume(205)
    assert (timer.paused, timer.due_at) == (False, 206)
    assert not timer.due(205.9)
    assert timer.due(206)


def test_no_limit_is_never_due() -> None:
    timer = Timer(inf)
    timer.start(0)
    timer.pause(5)
    timer.resume(6)
    assert not timer.due(10**12)


def logging_order(folder: Path, level: str) -> Order:
    return parse(LEAST | {"SP_WRAPPER_LOGDIR": str(folder), "SP_WRAPPER_LOGLEVEL": level})


@pytest.mark.parametrize(("level", "lines"), [("off", 0), ("normal", 1), ("debug", 2)])
def test_the_log_file_has_what_its_level_says(tmp_path: Path, level: str, lines: int) -> None:
    log = journal.Journal(logging_order(tmp_path, level))
    log.note("noted")
    log.debug("detail")
    file = tmp_path / journal.FILE_NAME
    found = file.read_text().splitlines() if file.exists() else []
    assert len(found) == lines
    assert all(" job_1:m1 " in line for line in found)


def test_the_log_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_SIZE", 1000)
    log = journal.Journal(logging_order(tmp_path, "normal"))
    for _ in range(200):
        log.note("x" * 50)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2500
    assert len(list(tmp_path.iterdir())) <= 2


def test_a_log_that_cannot_be_written_is_no_reason_to_fail() -> None:
    journal.Journal(logging_order(Path("/no/such/place"), "debug")).note("lost")


def test_where_the_state_lies() -> None:
    assert state.state_path({"SP_STATEDIR": "/x"}, 0) == "/x"
    assert state.state_path({}, 0) == "/var/lib/sp_wrapper"
    assert state.state_path({"HOME": "/h"}, 5) == "/h/.local/state/sp_wrapper"
    assert state.state_path({"HOME": "/h", "XDG_STATE_HOME": "/s"}, 5) == "/s/sp_wrapper"


def test_a_link_is_no_state_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(state.StateError, match="is a link or no directory"):
        state.StateDir(str(tmp_path / "link"))


def test_of_many_who_claim_a_run_one_gets_it(tmp_path: Path) -> None:
    home = state.StateDir(str(tmp_path / "state"))
    order = parse(LEAST)
    own, lock = claim.take(home, order, LEAST)
    assert own.is_worked_on()
    for _ in range(3):
        with pytest.raises(claim.Refused, match=r"job_1 \(attempt 1\) was claimed on this machine before"):
            claim.take(home, order, LEAST)
    assert names(tmp_path / "state" / "new") == []
    assert home.pending() == [own.run]
    assert own.order() == order
    os.close(lock)
    assert own.is_left()


def test_a_machine_without_room_for_a_reporter_gets_one_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    order = parse(LEAST)
    job = channel.Job(claim.Claim(state.StateDir(str(tmp_path / "state")), "run"), order, os.getpid(), 0, 0.0)
    started = Reporters(lambda *_: 0, journal.Journal(order), ())
    monkeypatch.setattr(os, "fork", no_room)
    started.start(job, 100.0)
    assert (started.due_at, list(started.interests())) == (130.0, [])
    started.help(lambda: None)


def test_only_what_belongs_to_the_order_is_kept(tmp_path: Path) -> None:
    home = state.StateDir(str(tmp_path / "state"))
    own, lock = claim.take(home, parse(LEAST), LEAST | {"PASSWORD": "hunter2"})
    os.close(lock)
    file = Path(own.file("order"))
    assert b"hunter2" not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


def test_old_claims_are_pruned_once_they_were_delivered(tmp_path: Path) -> None:
    home = state.StateDir(str(tmp_path / "state"))
    claims = []
    for instance in ("job_1", "job_2", "job_3"):
        own, lock = claim.take(home, parse(LEAST | {"SP_JOB_INSTANCE": instance}), LEAST)
        os.close(lock)
        claims.append(own)
    old, undelivered, young = claims
    old.delivered()
    young.delivered()
    now = 10**9 + state.KEEP_S + 1
    for own, at in ((old, 10**9), (undelivered, 10**9), (young, now)):
        os.utime(own.path, (at, at))
    state.prune(home, now)
    assert [own.exists() for own in claims] == [False, True, True]
    os.utime(young.path, (0, 0))
    state.prune(home, now + 60)
    assert young.exists(), "once a day is enough"
