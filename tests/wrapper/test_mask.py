from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from sp_wrapper import wire
from sp_wrapper.mask import SHORTEST, STARS, Mask
from tests.wrapper.conftest import Machine
from tests.wrapper.daemon import Daemon

TEXTS = st.text("ab*\n", max_size=40)


def masked(mask: Mask, *pieces: bytes) -> bytes:
    return b"".join(map(mask.feed, pieces)) + mask.end()


@given(st.lists(st.text("ab*", min_size=SHORTEST, max_size=8), max_size=3), st.lists(TEXTS, max_size=8))
def test_cuts_make_no_difference(values: list[str], pieces: list[str]) -> None:
    whole = "".join(pieces).encode()
    assert masked(Mask(values), *(piece.encode() for piece in pieces)) == masked(Mask(values), whole)


@given(st.text("ab", min_size=SHORTEST, max_size=8), st.lists(TEXTS, max_size=8))
def test_one_value_is_replaced_from_left_to_right(value: str, pieces: list[str]) -> None:
    whole = "".join(pieces).encode()
    assert masked(Mask([value]), *(piece.encode() for piece in pieces)) == re.sub(value.encode(), STARS, whole)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_other_bytes_are_left_alone(pieces: list[bytes]) -> None:
    mask, whole = Mask(["no such value in so few bytes"]), b"".join(pieces)
    assert masked(mask, *pieces) == whole


def test_no_more_is_held_back_than_may_begin_a_value() -> None:
    mask = Mask(["hunter2"])
    assert mask.feed(b"the password is hunter") == b"the password is "
    assert mask.feed(b"s, not hunter2") == b"hunters, not ***"
    assert mask.feed(b"hunt") == b""
    assert mask.end() == b"hunt"


def test_of_values_that_begin_alike_the_longest_counts() -> None:
    assert masked(Mask(["hunter2", "hunter2000"]), b"hunter2", b"000 hunter2", b"1") == b"*** ***1"


def test_lines_of_a_value_are_values() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nshort\n-----END KEY-----\n"
    assert masked(Mask([key]), key.encode()) == b"***\n"
    assert masked(Mask([key]), b"line 2: MIIEvQIBADANBgkq, short\n") == b"line 2: ***, short\n"


def test_what_is_too_short_is_not_looked_for() -> None:
    assert masked(Mask(["", "abc", " x\n"]), b"abc x") == b"abc x"


async def test_the_output_of_a_command_shows_none(machine: Machine, daemon: Daemon) -> None:
    """Also where it writes the value in two pieces, and holds its output's end."""
    daemon.secrets = wire.Secrets(env={"PASSWORD": "hunter2hunter3"})
    in_two = 'printf hunter2; sleep 0.7; printf "hunter3\\nhunter2"'
    command = f'echo "$PASSWORD"; {in_two}; echo err "$PASSWORD" >&2; printf hunter'
    await machine.start("job_1", command, SP_SECRETS="PASSWORD", SP_MASK_SECRETS="1")
    end = await daemon.end_of("job_1")
    shown = b"***\n***\nhunter2err ***\nhunter"
    assert bytes(daemon.output["job_1"]) == shown
    assert end.length == len(shown)


async def test_values_are_seen_where_nobody_asked_to_hide_them(machine: Machine, daemon: Daemon) -> None:
    daemon.secrets = wire.Secrets(env={"PASSWORD": "hunter2"})
    await machine.start("job_1", 'echo "$PASSWORD"', SP_SECRETS="PASSWORD")
    await daemon.end_of("job_1")
    assert daemon.output["job_1"] == b"hunter2\n"
