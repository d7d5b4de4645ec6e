"""Where requests are carried out, whichever way they came: over the WebSocket or by HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias, Union, get_args

import attrs
from typing_extensions import assert_never

from saltpeter.domain.access import Person
from saltpeter.endpoints import permissions, verbs
from saltpeter.endpoints.queries import Queries
from saltpeter.endpoints.records import Result
from saltpeter.engine.audit import Entry, Trail, Wanted
from saltpeter.engine.commands import Commands, HandedOver
from saltpeter.engine.execution import Manner
from saltpeter.errors import CommandRefused

Change: TypeAlias = Union[verbs.Run, verbs.Kill, verbs.Signal, verbs.Hold, verbs.Release, verbs.Reload]
CHANGES = get_args(Change)
OfDesk: TypeAlias = Union[verbs.Run, verbs.Signal, verbs.Hold, verbs.Release, verbs.Reload]
Question: TypeAlias = Union[
    verbs.GetRuns,
    verbs.GetRun,
    verbs.GetLatest,
    verbs.GetMatrix,
    verbs.GetPassed,
    verbs.GetAlike,
    verbs.GetOutput,
    verbs.GetTimeline,
    verbs.GetActive,
    verbs.GetBars,
    verbs.GetMachines,
    verbs.GetMachine,
    verbs.Health,
    verbs.Next,
    verbs.Why,
    verbs.Stats,
    verbs.ShowMaintenance,
    verbs.GetAudit,
]


@attrs.frozen
class Desk:
    """Answers one request after the other. Everything raises CommandRefused, with a stable code.

    `trail` gets each change that somebody asked for, with what came of it, before they are answered.
    """

    commands: Commands
    queries: Queries
    trail: Trail

    async def answer(self, asked: Change | Question, person: Person) -> Result:
        """Carry out what `person` asks for. A kill's answer says who was told; its end is another matter."""
        match asked:
            case verbs.Kill():
                return handed_over(await self.kill(asked, person))
            case verbs.Run() | verbs.Signal() | verbs.Hold() | verbs.Release() | verbs.Reload():
                async with self._noted(asked, person):
                    return await self._change(asked, person)
            case _:
                permissions.require(person, asked)
                return await self._look_up(asked)

    async def kill(self, asked: verbs.Kill, person: Person) -> list[HandedOver]:
        async with self._noted(asked, person):
            manner = Manner(asked.signal, asked.grace_s)
            return list(await self.commands.kill(asked.job, person.by, asked.machines, asked.instance, manner))

    @asynccontextmanager
    async def _noted(self, asked: Change, person: Person) -> AsyncIterator[None]:
        """Let `person` do it, if they may; either way it is noted, with what came of it."""
        result = "failed"
        try:
            permissions.require(person, asked)
            yield
            result = "done"
        except CommandRefused as refused:
            result = refused.code
            raise
        finally:
            what = {name: value for name, value in attrs.asdict(asked).items() if value is not None}
            did = type(asked).__name__.lower()
            await self.trail.note(
                Entry(at=self.queries.now(), who=person.by, peer=person.peer, did=did, what=what, result=result)
            )

    async def _change(self, asked: OfDesk, person: Person) -> Result:
        by = person.by
        match asked:
            case verbs.Run():
                return {"job_instance": await self.commands.run(asked.job, by, asked.machines)}
            case verbs.Signal():
                told = await self.commands.signal(asked.job, by, asked.signal, asked.machines, asked.instance)
                return handed_over(list(told))
            case verbs.Hold():
                until = None if asked.until is None else asked.until.at(self.queries.now())
                await self.commands.hold(asked.machine, by, asked.reason, until)
                return self.queries.maintenance()
            case verbs.Release():
                await self.commands.release(asked.machine, by)
                return self.queries.maintenance()
            case verbs.Reload():
                await self.commands.reload(by)
                return self.queries.configuration()
            case _:
                assert_never(asked)

    async def _look_up(self, asked: Question) -> Result:  # noqa: PLR0911, PLR0912  one for each question
        match asked:
            case verbs.GetRuns():
                return await self.queries.runs(asked)
            case verbs.GetRun():
                return await self.queries.run(asked.instance)
            case verbs.GetLatest():
                return await self.queries.latest(asked)
            case verbs.GetMatrix():
                return await self.queries.matrix(asked)
            case verbs.GetPassed():
                return await self.queries.passed(asked)
            case verbs.GetAlike():
                return await self.queries.alike(asked.instance)
            case verbs.GetOutput():
                return await self.queries.output(asked)
            case verbs.GetTimeline():
                return await self.queries.timeline(asked)
            case verbs.GetActive() | verbs.GetBars():
                return await self.queries.overview(asked)
            case verbs.GetMachines() | verbs.GetMachine():
                return await self.queries.fleet(asked)
            case verbs.Health():
                return await self.queries.health()
            case verbs.Next():
                return await self.queries.next(asked)
            case verbs.Why():
                return await self.queries.why(asked)
            case verbs.Stats():
                return await self.queries.statistics(asked.job)
            case verbs.ShowMaintenance():
                return self.queries.maintenance()
            case verbs.GetAudit():
                return await self._look_back(asked)
            case _:
                assert_never(asked)

    async def _look_back(self, asked: verbs.GetAudit) -> Result:
        since = None if asked.since is None else asked.since.at(self.queries.now())
        page = await self.trail.look_back(Wanted(since, asked.who), asked.before, asked.limit)
        return {"entries": [entry.as_dict() for entry in page.entries], "before": page.before}


def handed_over(handed: list[HandedOver]) -> Result:
    return {
        "runs": [
            {
                "job_instance": each.run,
                "machines": [execution.machine for execution in each.executions],
                "told": [execution.machine for execution in each.told],
            }
            for each in handed
        ]
    }
