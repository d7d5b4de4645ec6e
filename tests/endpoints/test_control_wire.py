from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltpeter.endpoints.control_wire import (
    Acknowledge,
    BadRequest,
    Kill,
    Reload,
    Request,
    Run,
    Subscribe,
    Unsubscribe,
    decode,
    refusal,
    reply,
)
from saltpeter.errors import CommandRefused


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"run": "backup"}, Run("backup")),
        ({"run": {"cron": "backup", "machines": ["db01"]}}, Run("backup", ("db01",))),
        ({"killCron": "backup"}, Kill("backup")),
        ({"killCron": {"cron": "backup", "job_instance": "backup_7"}}, Kill("backup", None, "backup_7")),
        ({"killMachine": {"cron": "backup", "machine": "db01"}}, Kill("backup", "db01")),
        (
            {"killMachine": {"cron": "backup", "machine": "db01", "job_instance": "backup_7"}},
            Kill("backup", "db01", "backup_7"),
        ),
        ({"killMachine": {"cron": "backup", "machine": "db01", "job_instance": None}}, Kill("backup", "db01")),
        ({"subscribe": "backup"}, Subscribe(("backup",))),
        ({"subscribe": ["backup", "other"]}, Subscribe(("backup", "other"))),
        ({"unsubscribe": ["backup"]}, Unsubscribe(("backup",))),
        ({"ack": {"cron": "backup", "machine": "db01", "position": 7}}, Acknowledge("backup", "db01", 7)),
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
        ('{"destroy": 1}', "unknown_verb", "'destroy'; known are ack, killCron"),
        ('{"run": 7}', "bad_field", "run must be an object"),
        ('{"run": ""}', "bad_field", "run must be a string"),
        ('{"run": {"cron": "a", "when": 1}}', "bad_field", "unknown field run.when; known are cron, machines"),
        ('{"killMachine": {"cron": "a"}}', "bad_field", "killMachine.machine"),
        ('{"killMachine": "a"}', "bad_field", "killMachine must be an object"),
        ('{"subscribe": [1]}', "bad_field", "subscribe"),
        ('{"ack": {"cron": "a", "machine": "b", "position": -1}}', "bad_field", "ack.position"),
        ('{"reload": false}', "bad_field", "reload must be true"),
        ('{"reload": true, "id": [1]}', "bad_field", "id must be"),
    ],
)
def test_bad_requests_are_named(said: str, code: str, words: str) -> None:
    with pytest.raises(BadRequest) as bad:
        decode(said)
    assert bad.value.code == code
    assert words in str(bad.value)


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


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["cron", "machine", "x"]), inner),
    max_leaves=5,
)
verbs = st.sampled_from(["run", "killCron", "killMachine", "subscribe", "unsubscribe", "ack", "reload", "id", "x"])


@given(st.dictionaries(verbs, anything) | anything)
def test_no_request_crashes(said: object) -> None:
    with suppress(BadRequest):
        decode(json.dumps(said))


@given(st.binary())
def test_no_bytes_crash(said: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(said)
