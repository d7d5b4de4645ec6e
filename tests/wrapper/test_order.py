from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_wrapper import channel, claim
from sp_wrapper.order import OrderError, parse, signal_number

LEAST = {
    "SP_WEBSOCKET_URL": "ws://daemon:8889/ws",
    "SP_JOB_NAME": "job",
    "SP_JOB_INSTANCE": "job_1",
    "SP_MACHINE_ID": "m1",
    "SP_COMMAND": "true",
}


def test_what_is_not_said_has_defaults() -> None:
    order = parse(LEAST)
    assert (order.timeout_s, order.grace_s, order.kill_signal, order.attempt) == (inf, 5.0, 15, 1)
    assert (order.output_limit, order.interval_s, order.report_for_s) == (64 * 2**20, 0.2, 86400.0)
    assert (order.user, order.cwd, order.lockfile, order.allow_overlap) == ("", "", "", False)
    assert (order.loglevel, order.logdir, order.token) == ("normal", "", "")
    assert (order.secrets, order.secrets_within_s) == ((), 300.0)


def test_secrets_are_named() -> None:
    order = parse(LEAST | {"SP_SECRETS": "PASSWORD,API_KEY", "SP_SECRETS_WITHIN": "5"})
    assert (order.secrets, order.secrets_within_s) == (("PASSWORD", "API_KEY"), 5.0)


def test_no_timeout_is_no_limit() -> None:
    assert parse(LEAST | {"SP_TIMEOUT": "0"}).timeout_s == inf
    assert parse(LEAST | {"SP_TIMEOUT": "90"}).timeout_s == 90


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("SP_MACHINE_ID", "", "is not set"),
        ("SP_TIMEOUT", "nan", "must be a finite number of at least 0"),
        ("SP_TIMEOUT", "-1", "must be a finite number of at least 0"),
        ("SP_ATTEMPT", "0", "must be a finite number of at least 1"),
        ("SP_KILL_GRACE", "long", "must be a number"),
        ("SP_WRAPPER_LOGLEVEL", "loud", "must be one of off, normal, debug"),
        ("SP_SECRETS", "A,,B", "must be names of variables with commas between them, not ''"),
        ("SP_SECRETS", "A=1", "must be names of variables with commas between them, not 'A=1'"),
    ],
)
def test_a_broken_order_names_its_variable(variable: str, value: str, problem: str) -> None:
    with pytest.raises(OrderError, match=f"^{variable} {problem}"):
        parse(LEAST | {variable: value})


@pytest.mark.parametrize(
    ("name", "number"), [("TERM", 15), ("sigint", 2), ("9", 9), ("0", None), ("999", None), ("X", None), ("", None)]
)
def test_signals_by_any_name(name: str, number: int | None) -> None:
    assert signal_number(name) == number


@given(st.dictionaries(st.text("ABC_", min_size=1), st.binary()))
def test_an_order_survives_the_disk(variables: dict[str, bytes]) -> None:
    fields = {key: value.replace(b"\0", b"").decode(errors="surrogateescape") for key, value in variables.items()}
    assert claim._unpack(claim._pack(fields)) == fields


@given(
    st.builds(
        channel.Facts,
        length=st.integers(0),
        paused=st.booleans(),
        recorded=st.booleans(),
        waiting=st.booleans(),
        pid=st.integers(0),
        started=st.floats(0, 1e12),
    )
)
def test_facts_survive_the_channel(facts: channel.Facts) -> None:
    assert channel.Facts.decode(facts.encode()) == facts


@pytest.mark.parametrize("request_", [channel.Kill(15, 0.25), channel.Signal(19), channel.Acked(10**12)])
def test_requests_survive_the_channel(request_: channel.Kill | channel.Signal | channel.Acked) -> None:
    assert channel.decode_request(channel.encode_request(request_)) == request_
    assert type(channel.decode_request(channel.encode_request(request_))) is type(request_)


_VALUES = st.text(st.characters(exclude_characters="\0", codec="utf-8"))


@given(st.dictionaries(st.from_regex("[A-Z_][A-Z0-9_]*", fullmatch=True), _VALUES), _VALUES)
def test_secrets_survive_the_channel_and_show_nowhere(env: dict[str, str], error: str) -> None:
    secrets = channel.Secrets(env, error)
    assert channel.decode_request(channel.encode_request(secrets)) == secrets
    assert repr(secrets) == f"Secrets(error={error!r})"
