"""Outcomes as text, and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from saltpeter.domain.outcome import End, Outcome
from saltpeter.store.outcomes import dump_outcome, load_outcome
from sp_wrapper import wire

NUMBERS = st.integers(-(2**63), 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=[]))  # halves of surrogate pairs too
SECONDS = st.floats(allow_nan=False, allow_infinity=False)
PROCESSES = st.lists(st.builds(wire.Process, NUMBERS, TEXTS, TEXTS), max_size=3).map(tuple)
OUTCOMES = st.builds(
    Outcome,
    end=st.sampled_from(End),
    code=NUMBERS,
    text=TEXTS,
    receipt=st.none() | st.builds(wire.Receipt, PROCESSES, PROCESSES, PROCESSES),
    usage=st.none() | st.builds(wire.Usage, SECONDS, SECONDS, NUMBERS),
)


@given(outcome=OUTCOMES)
def test_an_outcome_is_read_as_it_was_written(outcome: Outcome) -> None:
    assert load_outcome(dump_outcome(outcome)) == outcome


def test_no_outcome_is_none() -> None:
    assert load_outcome(None) is None
