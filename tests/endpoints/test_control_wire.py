from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltpeter.endpoints.control_wire import Request, decode, pack, refusal, reply
from saltpeter.endpoints.forms import BadRequest, Moment
from saltpeter.endpoints.verbs import (
    NOW,
    VERBS,
    Acknowledge,
    GetOutput,
    GetRun,
    GetRuns,
    GetTimeline,
    Hold,
    Kill,
    Next,
    Release,
    Reload,
    Run,
    ShowMaintenance,
    Signal,
    Stats,
    Subscribe,
    Subscription,
    Unsubscribe,
    Why,
)
from saltpeter.errors import CommandRefused

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
AT_NOON = Moment(NOON)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"run": "backup"}, Run("backup")),
        ({"run": {"cron": "backup", "machines": ["db01"]}}, Run("backup", ("db01",))),
        ({"killCron": "backup"}, Kill("backup")),
        ({"killCron": {"cron": "backup", "job_instance": "backup_7"}}, Kill("backup", None, "backup_7")),
        ({"killMachine": {"cron": "backup", "machine": "db01"}}, Kill("backup", ("db01",))),
        (
            {"killMachine": {"cron": "backup", "machine": "db01", "job_instance": "backup_7"}},
            Kill("backup", ("db01",), "backup_7"),
        ),
        ({"killMachine": {"cron": "backup", "machine": "db01", "job_instance": None}}, Kill("backup", ("db01",))),
        ({"killMachine": {"cron": "backup", "machine": "db01", "job_instance": ""}}, Kill("backup", ("db01",))),
        ({"killCron": {"cron": "backup", "signal": "sigint", "grace": 1}}, Kill("backup", signal="INT", grace_s=1.0)),
        ({"signal": {"cron": "backup", "signal": "USR1", "machine": "db01"}}, Signal("backup", "USR1", ("db01",))),
        ({"killCron": {"cron": "backup", "machines": ["db01", "db02"]}}, Kill("backup", ("db01", "db02"))),
        ({"killCron": {"cron": "backup", "machines": "db01"}}, Kill("backup", ("db01",))),
        ({"pause": {"cron": "backup", "machines": ["db01", "db02"]}}, Signal("backup", "STOP", ("db01", "db02"))),
        ({"pause": "backup"}, Signal("backup", "STOP")),
        ({"resume": {"cron": "backup", "job_instance": "b_7"}}, Signal("backup", "CONT", None, "b_7")),
        ({"subscribe": "backup"}, Subscribe((Subscription("backup"),))),
        ({"subscribe": ["backup", "other"]}, Subscribe((Subscription("backup"), Subscription("other")))),
        (
            {"subscribe": {"cron": "backup", "machine": "db01", "job_instance": "backup_7", "position": 9}},
            Subscribe((Subscription("backup", "db01", "backup_7", 9),)),
        ),
        ({"unsubscribe": ["backup"]}, Unsubscribe(("backup",))),
        ({"ack": {"cron": "backup", "machine": "db01", "position": 7}}, Acknowledge("backup", "db01", 7)),
        ({"getRuns": {}}, GetRuns()),
        (
            {"getRuns": {"cron": "backup", "since": "now-1h", "until": "now", "failed": True, "limit": 5}},
            GetRuns("backup", Moment(shift=-HOUR), NOW, True, 5),
        ),
        ({"getRun": {"job_instance": "backup_7"}}, GetRun("backup_7")),
        ({"getOutput": {"job_instance": "b_7", "machine": "m", "attempt": 2}}, GetOutput("b_7", "m", 2)),
        (
            {"getTimeline": {"start_date": "2026-11-20T12:00:00Z", "end_date": "now", "id": 5}},
            GetTimeline(AT_NOON, NOW, 5),
        ),
        ({"next": {"cron": "backup", "count": 3, "from": "2026-11-20T13:00:00+01:00"}}, Next("backup", 3, AT_NOON)),
        ({"why": {"cron": "backup", "at": "2026-11-20 12:00"}}, Why("backup", AT_NOON)),
        ({"stats": {"cron": "backup"}}, Stats("backup")),
        ({"maintenance": {"set": {"machine": "", "reason": "move"}}}, Hold("", "move")),
        ({"maintenance": {"end": {"machine": "db01"}}}, Release("db01")),
        ({"maintenance": {"show": True}}, ShowMaintenance()),
        ({"reload": True}, Reload()),
    ],
)
def test_requests_mean_what_clients_have_always_meant(said: dict[str, Any], meant: object) -> None:
    assert decode(json.dumps(said)) == Request(meant)  # type: ignore[arg-type]  # parametrised
    assert decode(json.dumps({**said, "id": "a1"})) == Request(meant, "a1")  # type: ignore[arg-type]  # parametrised


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("{", "bad_json", "not JSON"),
        ("[]", "bad_json", "not a JSON object"),
        ("{}", "bad_request", "exactly one verb"),
        ('{"run": "a", "reload": true}', "bad_request", "exactly one verb"),
        ('{"destroy": 1}', "unknown_verb", "'destroy'; known are ack, getActive"),
        ('{"run": 7}', "bad_value", "run must be an object"),
        ('{"run": ""}', "bad_value", "run.cron must be a string"),
        ('{"run": "\\ud800"}', "bad_value", "half a surrogate pair"),
        ('{"run": {"cron": "a", "when": 1}}', "unknown_field", "unknown field run.when; known are cron, machines"),
        ('{"killCron": {"cron": "a", "machine": "m"}}', "unknown_field", "killCron.machine"),
        ('{"killMachine": {"cron": "a"}}', "bad_value", "killMachine.machine is missing"),
        ('{"killMachine": "a"}', "bad_value", "killMachine must be an object"),
        ('{"killCron": {"cron": "a", "signal": "BOO"}}', "bad_value", "killCron.signal: 'BOO' is no signal"),
        ('{"killCron": {"cron": "a", "grace": -1}}', "bad_value", "killCron.grace must be a number of seconds"),
        ('{"killCron": {"cron": "a", "grace": NaN}}', "bad_value", "killCron.grace"),
        ('{"killCron": {"cron": "a", "machines": []}}', "bad_value", "killCron.machines names nothing"),
        ('{"killCron": {"cron": "a", "machines": {"m": 1}}}', "bad_value", "killCron.machines must be a name"),
        ('{"killMachine": {"cron": "a", "machine": ["m"]}}', "bad_value", "killMachine.machine must be a string"),
        ('{"pause": {"cron": "a", "machine": "m", "machines": ["n"]}}', "bad_value", "machine or machines, not both"),
        ('{"pause": {"cron": "a", "signal": "KILL"}}', "unknown_field", "pause.signal"),
        ('{"subscribe": [1]}', "bad_value", "subscribe"),
        ('{"subscribe": {"cron": "a", "position": 4}}', "bad_value", "subscribe.machine is missing"),
        ('{"ack": {"cron": "a", "machine": "b", "position": -1}}', "bad_value", "ack.position"),
        ('{"getRuns": {"limit": 1001}}', "bad_value", "getRuns.limit must be a whole number from 1 to 1000"),
        ('{"getRuns": {"failed": 1}}', "bad_value", "getRuns.failed must be true or false"),
        ('{"getRuns": {"since": "yesterday"}}', "bad_time", "getRuns.since: 'yesterday' is no time; write ISO 8601"),
        ('{"getRuns": {"since": "now-999999w"}}', "bad_time", "getRuns.since"),
        ('{"getRuns": {"since": "0001-01-01"}}', "bad_time", "getRuns.since"),
        ('{"why": {"at": "now"}}', "bad_value", "why.cron is missing"),
        ('{"maintenance": {}}', "bad_value", "maintenance must be an object with one of set, end, show"),
        ('{"maintenance": {"begin": {}}}', "unknown_field", "maintenance.begin"),
        ('{"maintenance": {"end": {}}}', "bad_value", "maintenance.end.machine is missing"),
        ('{"reload": false}', "bad_value", "reload must be true"),
        ('{"reload": true, "id": [1]}', "bad_value", "id must be"),
    ],
)
def test_bad_requests_are_named(said: str, code: str, words: str) -> None:
    with pytest.raises(BadRequest) as bad:
        decode(said)
    assert bad.value.code == code
    assert words in str(bad.value)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("now", NOON),
        ("now-90s", NOON - timedelta(seconds=90)),
        ("now+30m", NOON + timedelta(minutes=30)),
        ("now-2w", NOON - timedelta(weeks=2)),
        ("2026-11-20", NOON - 12 * HOUR),
        ("2026-11-20T13:30:00.250+01:00", NOON + timedelta(minutes=30, seconds=0.25)),
        ("2026-11-20T12:00:00.000Z", NOON),
    ],
)
def test_times_as_people_and_browsers_write_them(said: str, meant: datetime) -> None:
    request = decode(json.dumps({"why": {"cron": "backup", "at": said}}))
    assert isinstance(request.verb, Why)
    assert request.verb.at.at(NOON) == meant


def test_a_refusal_finds_its_request() -> None:
    with pytest.raises(BadRequest) as bad:
        decode('{"destroy": 1, "id": 7}')
    assert bad.value.id == 7
    assert json.loads(refusal(7, CommandRefused("unknown_job", "no"))) == {
        "type": "reply",
        "id": 7,
        "ok": False,
        "error": {"code": "unknown_job", "message": "no"},
    }
    assert json.loads(refusal(None, CommandRefused("unknown_job", "no"))) == {
        "type": "error",
        "code": "unknown_job",
        "message": "no",
    }
    assert json.loads(reply("x", {})) == {"type": "reply", "id": "x", "ok": True, "result": {}}


names = [
    "cron",
    "machine",
    "machines",
    "job_instance",
    "at",
    "since",
    "limit",
    "position",
    "signal",
    "set",
    "show",
    "x",
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("now-1h"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner),
    max_leaves=5,
)
verbs = st.sampled_from([*VERBS, "id", "x"])


@given(st.dictionaries(verbs, anything, max_size=2) | anything)
def test_no_request_crashes(said: object) -> None:
    with suppress(BadRequest):
        decode(json.dumps(said))


@given(st.binary())
def test_no_bytes_crash(said: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(said)


@pytest.mark.parametrize("odd", ["half a pair: \ud800", 2**80, -(2**70)])
def test_what_few_parsers_take_is_sent_all_the_same(odd: object) -> None:
    assert json.loads(pack({"type": "odd", "value": odd})) == {"type": "odd", "value": odd}


def test_what_json_has_no_word_for_is_sent_as_its_text() -> None:
    assert json.loads(pack({"path": Path("/x"), "größe": [1.5, None, True]})) == {
        "path": "/x",
        "größe": [1.5, None, True],
    }


@given(st.dictionaries(st.text(), anything | st.binary()))
def test_whatever_is_sent_is_json(message: dict[str, object]) -> None:
    assert json.loads(pack(message)).keys() == message.keys()
