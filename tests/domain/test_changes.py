from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from saltpeter.domain.changes import Change, Changes, Kind

NAMES = st.sampled_from([Change(Kind.RUN, name) for name in "abcde"] + [Change(Kind.MACHINE, "a", "m")])


@given(noted=st.lists(NAMES, max_size=40), bound=st.integers(1, 8), asked=st.integers(0, 41))
def test_what_is_not_known_in_full_is_not_told(noted: list[Change], bound: int, asked: int) -> None:
    changes = Changes(bound)
    for serial, change in enumerate(noted, 1):
        changes.note(change, serial)
    truth = set(noted[asked:])
    told = changes.since(asked)
    if told is None:
        assert len(set(noted)) > bound  # it has forgotten something
    else:
        assert len(told) == len(set(told))
        assert set(told) == truth
    assert (changes.since(len(noted)) or []) == []


def test_the_most_recent_comes_first_and_each_once() -> None:
    changes = Changes()
    one, other = Change(Kind.JOB, "one"), Change(Kind.JOB, "other")
    for serial, change in enumerate((one, other, one), 1):
        changes.note(change, serial)
    assert changes.since(0) == [one, other]
    assert changes.since(2) == [one]
