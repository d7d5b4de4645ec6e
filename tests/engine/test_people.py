"""The file of people's tokens."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from saltpeter.domain.access import Role, recognise
from saltpeter.engine import people
from saltpeter.engine.people import TOKENS_FILE, TokenError, TokenFile
from tests.endpoints.rig import NOON


def add(path: Path, name: str, role: Role = Role.VIEWER) -> str:
    return people.add(path, name, role, by="unix:root", at=NOON)


def test_a_token_is_known_until_it_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "state" / TOKENS_FILE
    watched = TokenFile(path)
    assert watched.current() is None
    token, other = add(path, "alice", Role.OPERATOR), add(path, "bob")
    known = watched.current() or ()
    found = recognise(known, token)
    assert found is not None
    assert (found.name, found.role, found.by, found.created_at) == ("alice", Role.OPERATOR, "unix:root", NOON)
    assert recognise(known, token[:-1]) is None
    people.revoke(path, "alice")
    left = watched.current() or ()
    assert recognise(left, token) is None
    assert recognise(left, other) is not None
    people.revoke(path, "bob")
    assert watched.current() == ()


def test_a_token_is_limited_to_groups_for_as_long_as_it_lives(tmp_path: Path) -> None:
    path = tmp_path / TOKENS_FILE
    people.add(path, "bob", Role.VIEWER, ("web", "shop", "web"), by="unix:root", at=NOON)
    add(path, "alice")
    assert [each.groups for each in people.load(path) or ()] == [frozenset({"web", "shop"}), None]
    people.revoke(path, "alice")
    assert [each.groups for each in people.load(path) or ()] == [frozenset({"web", "shop"})]


@pytest.mark.parametrize("group", ["", "web.yaml", "conf.d/web", "we\nb"])
def test_what_no_file_is_called_is_no_group(group: str, tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="cannot be a group of jobs"):
        people.add(tmp_path / TOKENS_FILE, "bob", Role.VIEWER, (group,), by="unix:root", at=NOON)
    assert not (tmp_path / TOKENS_FILE).exists()


@pytest.mark.parametrize("limit", [{"groups": []}, {"groups": "web"}, {"groups": [7]}, {"hours": "9-17"}])
def test_a_limit_that_is_not_understood_lets_nobody_in(limit: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / TOKENS_FILE
    add(path, "alice")
    written = json.loads(path.read_text())
    written["tokens"][0] |= limit
    path.write_text(json.dumps(written))
    with pytest.raises(TokenError, match="is damaged"):
        people.load(path)


def test_the_file_holds_no_token_and_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / TOKENS_FILE
    before = os.umask(0)
    try:
        token = add(path, "alice")
    finally:
        os.umask(before)
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_tokens_are_long_and_never_the_same(tmp_path: Path) -> None:
    made = {add(tmp_path / TOKENS_FILE, f"t{number}") for number in range(20)}
    assert len(made) == 20
    assert all(token.startswith("sp_") and len(token) == 46 for token in made)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "../x", "<b>", "x" * 65, "\x1b[31m", "ä"])
def test_a_name_that_would_need_quoting_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="cannot be a token's name"):
        add(tmp_path / TOKENS_FILE, name)
    assert not (tmp_path / TOKENS_FILE).exists()


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / TOKENS_FILE
    add(path, "alice")
    with pytest.raises(TokenError, match="revoke it first"):
        add(path, "alice")
    with pytest.raises(TokenError, match="no token 'carol'"):
        people.revoke(path, "carol")
    with pytest.raises(TokenError, match="nobody"):
        add(path, "carol", Role.NOBODY)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"tokens": [{}]}', '{"tokens": 7}', '{"tokens": [{"name": "a", "role": "king"}]}']
)
def test_a_damaged_file_lets_nobody_in_and_says_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / TOKENS_FILE
    watched = TokenFile(path)
    path.write_text(text)
    assert watched.current() == ()
    assert str(path) in watched.problem
    with pytest.raises(TokenError):
        add(path, "alice")
    assert path.read_text() == text
    path.unlink()
    add(path, "alice")
    assert len(watched.current() or ()) == 1
    assert watched.problem == ""


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    add(real, "alice")
    path = tmp_path / TOKENS_FILE
    path.symlink_to(real)
    assert TokenFile(path).current() == ()
