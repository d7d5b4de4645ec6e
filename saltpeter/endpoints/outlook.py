"""What somebody sees of the daemon, and where they ask for more: all of it, or what concerns some groups of jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

import attrs

from saltpeter.domain.access import Person
from saltpeter.domain.excerpt import Excerpt
from saltpeter.endpoints import verbs, views
from saltpeter.endpoints.deltas import Because, Deltas, Texts
from saltpeter.endpoints.desk import Desk
from saltpeter.endpoints.limited import LimitedBoard, LimitedCommands, LimitedPast
from saltpeter.endpoints.pulse import Pulse
from saltpeter.endpoints.queries import Past, Queries
from saltpeter.endpoints.readiness import Check
from saltpeter.endpoints.records import Result
from saltpeter.endpoints.viewer import Viewer
from saltpeter.endpoints.vitals import AllVitals, SignsOfLife
from saltpeter.engine.audit import Trail
from saltpeter.engine.board import Board, Shown
from saltpeter.engine.commands import Commands

MOST_LIMITED = 256  # sets of groups that are kept ready


@attrs.define(eq=False)
class Outlook:
    """That of all who see the same: what they are told is worked out once. `life` says whose serials they are."""

    board: Shown
    desk: Desk
    sp_version: str
    life: str
    lost: Callable[[Collection[str]], Collection[str]]  # of these jobs, those that are not to be seen any more
    _living: views.Running = attrs.field(factory=views.Running, init=False)
    _texts: Texts = attrs.field(factory=Texts, init=False)

    def first_viewer(self) -> Viewer:
        return Viewer(self.sp_version, self._living)

    def greet(self, hello: verbs.Hello) -> tuple[Viewer | Deltas, Result]:
        """The view of a client that says hello, and what it is answered."""
        if hello.protocol == 1:
            return self.first_viewer(), {"protocol": 1, "sp_version": self.sp_version}
        state = self.board.state
        known = hello.serial if hello.life == self.life else None
        resumed = known is not None and state.changes.since(known) is not None
        because: Because = "new" if hello.serial is None else "too_old" if hello.life == self.life else "restarted"
        serial = known if resumed else None if hello.listen else state.serial
        told = {"protocol": 2, "life": self.life, "serial": state.serial, "resumed": resumed}
        same_life = hello.life == self.life or (hello.life is None and hello.serial is None)  # or it knows nothing
        viewer = Deltas(self.sp_version, self.life, self._texts, serial, because, hello.listen, same_life)
        return viewer, {**told, "sp_version": self.sp_version}


def _nothing(_jobs: Collection[str]) -> Collection[str]:
    return ()


@attrs.define(eq=False)
class Outlooks:
    """Everybody's. `now` gives the time as an aware datetime, `life` is one of the daemon's own."""

    _board: Board
    _past: Past
    _commands: Commands
    _sp_version: str
    _life: str
    _now: Callable[[], datetime]
    _checks: Mapping[str, Check]
    _pulse: Pulse
    _trail: Trail
    _whole: Outlook = attrs.field(init=False)
    _limited: dict[frozenset[str], Outlook] = attrs.field(factory=dict, init=False)  # the latest asked for is last

    def __attrs_post_init__(self) -> None:
        vitals = AllVitals(self._checks, self._pulse, self._past.health, self._now)
        queries = Queries(self._board, self._past, self._now, vitals)
        desk = Desk(self._commands, queries, self._trail)
        self._whole = Outlook(self._board, desk, self._sp_version, self._life, _nothing)

    def of(self, person: Person) -> Outlook:
        if person.groups is None:
            return self._whole
        outlook = self._limited.pop(person.groups, None) or self._limited_to(person.groups)
        self._limited[person.groups] = outlook
        if len(self._limited) > MOST_LIMITED:
            del self._limited[next(iter(self._limited))]
        return outlook

    def _limited_to(self, groups: frozenset[str]) -> Outlook:
        board = LimitedBoard(self._board, Excerpt(groups))
        past = LimitedPast(self._past, board)
        queries = Queries(board, past, self._now, SignsOfLife(self._checks, self._pulse))
        desk = Desk(LimitedCommands(self._commands, queries.job), queries, self._trail)
        life = hashlib.sha256("\n".join([self._life, *sorted(groups)]).encode()).hexdigest()[: len(self._life)]
        return Outlook(board, desk, self._sp_version, life, board.lost)
