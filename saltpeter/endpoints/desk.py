"""Where requests are carried out, whichever way they came: over the WebSocket or by HTTP."""

from __future__ import annotations

from typing import TypeAlias, Union

import attrs
from typing_extensions import assert_never

from saltpeter.domain.access import Person
from saltpeter.endpoints import permissions, verbs
from saltpeter.endpoints.queries import Queries
from saltpeter.endpoints.records import Result
from saltpeter.engine.commands import Commands, HandedOver
from saltpeter.engine.execution import Manner

Change: TypeAlias = Union[verbs.Run, verbs.Kill, verbs.Signal, verbs.Hold, verbs.Release, verbs.Reload]
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
]


@attrs.frozen
class Desk:
    """Answers one request after the other. Everything raises CommandRefused, with a stable code."""

    commands: Commands
    queries: Queries

    async def answer(self, asked: Change | Question, person: Person) -> Result:
        """Carry out what `person` asks for. A kill's answer says who was told; its end is another matter."""
        permissions.require(person, asked)
        match asked:
            case verbs.Run() | verbs.Kill() | verbs.Signal() | verbs.Hold() | verbs.Release() | verbs.Reload():
                return await self._change(asked, person)
            case _:
                return await self._look_up(asked)

    async def kill(self, asked: verbs.Kill, person: Person) -> list[HandedOver]:
        permissions.require(person, asked)
        manner = Manner(asked.signal, asked.grace_s)
        return list(await self.commands.kill(asked.job, person.by, asked.machine, asked.instance, manner))

    async def _change(self, asked: Change, person: Person) -> Result:
        by = person.by
        match asked:
            case verbs.Run():
                return {"job_instance": await self.commands.run(asked.job, by, asked.machines)}
            case verbs.Kill():
                return handed_over(await self.kill(asked, person))
            case verbs.Signal():
                told = await self.commands.signal(asked.job, by, asked.signal, asked.machine, asked.instance)
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
            case _:
                assert_never(asked)


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
