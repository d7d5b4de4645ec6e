"""The daemon's log: one event, one line, whoever else takes logging over."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import subprocess
import sys
import threading
import time
from datetime import datetime
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltpeter.logs import escape, fields, make_handler

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


class Log:
    """A logger of its own with the handler that is tested, and what it wrote."""

    def __init__(
        self,
        name: str,
        format: Literal["text", "json"],
        *,
        debug: bool = False,
        stream: io.StringIO | None = None,
    ) -> None:
        self.logger = logging.Logger(name)
        self._stream = stream or io.StringIO()
        self.logger.addHandler(make_handler(debug=debug, format=format, stream=self._stream))

    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()


def test_a_line_of_text_is_what_operators_know() -> None:
    log = Log("saltpeter.engine.scheduler", "text")
    log.logger.info("Firing %s!", "test_job_1762346049", extra=fields("run.started", run="test_job_1762346049"))
    [line] = log.lines()
    assert re.fullmatch(f"{STAMP} INFO Firing test_job_1762346049!", line)


def test_a_json_line_has_the_facts_beside_the_text() -> None:
    log = Log("saltpeter.engine.run", "json")
    facts = {"run": "a_1", "code": 253, "at": datetime(2025, 11, 5), "name": "x", "text": "not mine", "args": [1]}  # noqa: DTZ001
    log.logger.warning("Ended %s", "a_1", extra=fields("execution.ended", **facts))
    [line] = log.lines()
    found = json.loads(line)
    assert re.fullmatch(STAMP, found.pop("time"))
    assert found == {
        "level": "warning",
        "logger": "saltpeter.engine.run",
        "event": "execution.ended",
        "text": "Ended a_1",
        "run": "a_1",
        "code": 253,
        "at": "2025-11-05 00:00:00",
        "name": "x",
        "args": [1],
    }


@given(st.text(st.characters() | st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_nothing_that_a_peer_says_makes_a_second_line(text: str) -> None:
    for format in ("text", "json"):
        log = Log("saltpeter", format)
        log.logger.info("It said: %s", text, extra=fields("peer.heard", text=text, said=text))
        [line] = log.lines()
        assert line.encode()
        assert "\x1b" not in line


def test_escaping_leaves_people_their_letters() -> None:
    assert escape("Größe 漢字 \\n 😀") == "Größe 漢字 \\n 😀"
    assert escape("a\nb\x1b[31m\x9b\u202e\ud83d\x7f") == "a\\nb\\x1b[31m\\x9b\\u202e\\ud83d\\x7f"


def test_a_traceback_stands_under_its_line_or_in_its_object() -> None:
    for format in ("text", "json"):
        log = Log("saltpeter", format)
        try:
            raise ValueError("first\n2025-11-05T12:00:00.000+00:00 INFO forged \x1b[2J")
        except ValueError:
            log.logger.exception("It broke")
        if format == "json":
            [line] = log.lines()
            assert json.loads(line)["exception"].startswith("Traceback")
        else:
            line, *below = log.lines()
            assert line.endswith("ERROR It broke")
            assert below[0] == "    Traceback (most recent call last):"
            assert below[-1] == "    2025-11-05T12:00:00.000+00:00 INFO forged \\x1b[2J"
            assert all(each.startswith("    ") for each in below)


def test_others_are_heard_when_they_warn_and_called_by_name() -> None:
    log = Log("salt.client", "text")
    log.logger.info("chatter")
    log.logger.warning("trouble")
    [line] = log.lines()
    assert line.endswith("WARNING salt.client: trouble")
    debugging = Log("salt.client", "text", debug=True)
    debugging.logger.debug("chatter")
    assert len(debugging.lines()) == 1


def test_a_text_that_does_not_fit_its_values_is_shown_all_the_same() -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise ZeroDivisionError

        __repr__ = object.__repr__

    log = Log("saltpeter", "text")
    log.logger.info("%d apples", "some")
    log.logger.info("%s", Unspeakable())
    first, second = log.lines()
    assert first.endswith("INFO %d apples ('some',)")
    assert "Unspeakable object" in second


def test_a_line_is_out_when_the_call_returns() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    logger = logging.Logger("saltpeter")
    logger.addHandler(make_handler(debug=False, format="text", stream=stream))
    logger.info("Größe")
    assert raw.getvalue().endswith("INFO Größe\n".encode())


class Halting(io.StringIO):
    """Lets other threads run in the middle of each write."""

    def write(self, text: str) -> int:
        for letter in text:
            super().write(letter)
            time.sleep(0)
        return len(text)


def test_lines_of_many_threads_stay_whole() -> None:
    log = Log("saltpeter", "text", stream=Halting())

    def speak(word: str) -> None:
        for _ in range(20):
            log.logger.info(word)

    threads = [threading.Thread(target=speak, args=(letter * 30,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line.split()[-1] for line in log.lines()) == ["a" * 30] * 20 + ["b" * 30] * 20


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_stream_that_fails_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    closed = io.StringIO()
    closed.close()
    for stream, why in ((Full(), "No space left"), (closed, "closed file")):
        log = Log("saltpeter", "text", stream=stream)
        log.logger.info("said to nobody")
        assert why in capsys.readouterr().err


PROGRAM = """
import logging, sys
from saltpeter import logs
from saltpeter.logs import fields

early = logging.getLogger("saltpeter.early")
if "before" in sys.argv:
    logs.configure(format="json")
import salt.client
between = logging.getLogger("saltpeter.between")
logging.getLogger("salt.hoarded").warning("hoarded")
logs.configure(format="json")
logs.configure(format="json")
late = logging.getLogger("saltpeter.late")
for log in (early, between, late):
    log.debug("not said")
    log.info("Firing %s!", "a_1", extra=fields("run.started", jid="20251105", name=log.name))
    log.info("%d", "no number")
logging.getLogger("salt.client").info("chatter")
logging.getLogger("salt.client").warning("trouble")
logging.getLogger("salt.loaded.later").trace("Salt's own loggers keep what Salt expects of them")
logs.configure(format="json", debug=True)
late.debug("said")
late.debug("%(n)d apples of %(n)d", {"n": 3})
late.debug("%s", {})
others = logging.StreamHandler(sys.stdout)
others.setFormatter(logging.Formatter("%(asctime)s %(filename)s:%(lineno)d %(threadName)s %(process)s", "now"))
logging.getLogger("saltpeter").addHandler(others)
late.debug("heard by others")
logging.getLogger("saltpeter").removeHandler(others)
raise RuntimeError("the end")
"""


@pytest.fixture(scope="module", params=["before", "after"])
def spoken(request: pytest.FixtureRequest) -> list[dict[str, object]]:
    """What a program says that configures logging before and after, or only after, it has imported Salt."""
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM, request.param],
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (program.returncode, program.stdout) == (1, "now :0 None None\n")
    return [json.loads(line) for line in program.stderr.splitlines()]


def test_salts_import_changes_nothing(spoken: list[dict[str, object]]) -> None:
    """It replaces the handlers, the levels, the class of loggers and records, and the hook for errors."""
    own = [each for each in spoken if str(each["logger"]).startswith("saltpeter.") and each["level"] == "info"]
    names = [f"saltpeter.{name}" for name in ("early", "between", "late")]
    assert [each.get("name") for each in own] == [name_or_not for name in names for name_or_not in (name, None)]
    assert own[0]["event"] == "run.started"
    assert own[0]["jid"] == "20251105"
    assert own[1]["text"] == "%d ('no number',)"


def test_nothing_is_said_twice_or_lost(spoken: list[dict[str, object]]) -> None:
    others = [each["text"] for each in spoken if each["level"] != "info"]
    debugged = ["said", "3 apples of 3", "{}", "heard by others"]
    assert others == ["hoarded", "trouble", *debugged, "Stopped by an unhandled error"]
    assert "RuntimeError: the end" in str(spoken[-1]["exception"])
