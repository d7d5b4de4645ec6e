"""From publishing a launch to every machine's word on it, however long the way to the machines takes."""

from __future__ import annotations

import abc
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from itertools import chain, repeat
from typing import TypeAlias

import attrs
import trio

from saltpeter.domain import outcome as outcomes
from saltpeter.domain.outcome import End, Outcome
from saltpeter.domain.patience import Patience
from saltpeter.engine.execution import Execution
from saltpeter.engine.gather import Pile
from saltpeter.engine.launcher import UNTOLD, Answer, AskStatus, Call, FindPlain, Launcher, again, job_of
from saltpeter.errors import LaunchError, LaunchUnknown
from saltpeter.logs import fields
from sp_wrapper import codes, wire

log = logging.getLogger(__name__)

_REPUBLISH_S = (1.0, 2.0, 5.0, 10.0)  # between attempts to publish; the last repeats
_NO_WRAPPER = (126, 127)  # what a shell answers where there is none that can be executed
_LOST_ANSWERS = 3  # so often a plain command must be gone without an answer before it counts as lost


Issue: TypeAlias = Callable[[Collection[str]], Awaitable[Call]]  # makes the call to those machines, as of now


def always(call: Call) -> Issue:
    """For a call that is good at any time."""

    async def issue(machines: Collection[str]) -> Call:
        await trio.lowlevel.checkpoint()
        return call

    return issue


async def hand_out(launcher: Launcher, ticket: str, issue: Issue, machines: Collection[str]) -> None:
    """Publish until it is known to be out: always with the same ticket, so that no machine acts twice.

    Raises LaunchError when it never can be.
    """
    for pause_s in chain(_REPUBLISH_S, repeat(_REPUBLISH_S[-1])):
        try:
            return await launcher.publish(ticket, await issue(machines), machines)
        except LaunchUnknown as unknown:
            log.warning("Salt did not take job %s yet: %s", ticket, unknown, extra=fields("launch.unknown", jid=ticket))
        await trio.sleep(pause_s)


def fail(executions: Collection[Execution], error: LaunchError) -> None:
    """They end, for they cannot be launched."""
    for execution in executions:
        execution.finish(outcomes.launch_failed(outcomes.FAILED, str(error)))


@attrs.define(eq=False)
class Launch(abc.ABC):
    """One call to start, for those executions of a run that begin together."""

    launcher: Launcher
    ticket: str
    executions: Mapping[str, Execution]  # by machine
    patience: Patience
    issue: Issue
    _nursery: trio.Nursery = attrs.field(init=False)  # of all that goes on until the last word

    async def begin(self, send: Callable[[], Awaitable[None]]) -> None:
        """Return when every execution has had its word: its confirmation, or without a wrapper its end.

        `send` returns when the launch is out, and raises LaunchError when it never can be.
        """
        await self._until_all_have_spoken(partial(self._publish, send))

    async def resume(self) -> None:
        """The same for a launch that may have been published before: the machines are asked first."""
        self.out()
        await self._until_all_have_spoken(self._look_after_the_silent)

    async def _until_all_have_spoken(self, lead: Callable[[], Awaitable[None]]) -> None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._listen, self.ticket, self.answered, name=f"answers to {self.ticket}")
            self._nursery.start_soon(lead, name=f"launch {self.ticket}")
            for execution in self.executions.values():
                if not (word := self.word(execution)).is_set():  # else it would only cost a turn
                    await word.wait()
            self._nursery.cancel_scope.cancel()
        confirmed = sum(execution.confirmed for execution in self.executions.values())
        log.info(
            "Monitoring WebSocket results for %d confirmed target(s)...",
            confirmed,
            extra=fields("launch.confirmed", jid=self.ticket, machines=confirmed),
        )

    @abc.abstractmethod
    def word(self, execution: Execution) -> trio.Event:
        """What this launch waits for."""

    @abc.abstractmethod
    def out(self) -> None:
        """It has been published."""

    @abc.abstractmethod
    async def answered(self, execution: Execution, answer: Answer) -> None:
        """A machine's answer to the launch itself."""

    @abc.abstractmethod
    def question(self) -> Call:
        """What to ask a machine that is silent."""

    @abc.abstractmethod
    async def told(self, execution: Execution, answer: Answer) -> None:
        """A machine's answer to the question."""

    def gone(self, machine: str) -> Outcome:
        """The end of a machine that answers nothing any more."""
        return outcomes.NO_RESPONSE

    def silent(self) -> list[str]:
        """The machines that still owe their word."""
        return [machine for machine, execution in self.executions.items() if not self.word(execution).is_set()]

    async def _publish(self, send: Callable[[], Awaitable[None]]) -> None:
        try:
            await send()
        except LaunchError as error:
            fail(self.executions.values(), error)
        else:
            self.out()
            await self._look_after_the_silent()

    async def _listen(self, ticket: str, act: Callable[[Execution, Answer], Awaitable[None]]) -> None:
        async with self.launcher.answers(ticket) as answers:
            async for answer in answers:
                if (execution := self.executions.get(answer.machine)) is not None:
                    self.patience.heard(answer.machine, trio.current_time())
                    await act(execution, answer)

    async def _listen_a_while(self, ticket: str) -> None:
        with trio.move_on_after(self.patience.within_s):
            await self._listen(ticket, self.told)

    async def _look_after_the_silent(self) -> None:
        """Ask whoever is silent; one that answers nothing for long enough, while the way there is open, is gone."""
        self.patience.asked(self.silent(), trio.current_time())
        while True:
            await trio.sleep(self.patience.look_every_s)
            if not await self.launcher.reachable():
                self.patience.excuse(trio.current_time())
                continue
            for machine in self.patience.gone(self.silent(), trio.current_time()):
                self.executions[machine].finish(self.gone(machine))
            if machines := self.patience.to_ask(self.silent(), trio.current_time()):
                await self._ask(machines)

    async def _ask(self, machines: Collection[str]) -> None:
        ticket = self.launcher.ticket()
        self.patience.asked(machines, trio.current_time())
        self._nursery.start_soon(self._listen_a_while, ticket, name=f"answers to {ticket}")
        try:
            await self.launcher.publish(ticket, self.question(), machines)
        except (LaunchUnknown, LaunchError) as unknown:
            log.debug("Could not ask about job %s: %s", self.ticket, unknown)


@attrs.define(eq=False)
class WrapperLaunch(Launch):
    """Salt's answer says whether the wrapper took the order; from then on the wrapper speaks for itself."""

    path: str  # of the wrapper
    only_singly: Callable[[str], None]  # told of a machine that could not take several orders at once
    _again: set[str] = attrs.field(factory=set, init=False)  # the machines that may have been given it once more
    _to_give: Pile[Execution] = attrs.field(init=False)  # to be given it once more

    def __attrs_post_init__(self) -> None:
        self._to_give = Pile(f"{self.ticket} again")

    async def resume(self) -> None:
        self._again.update(self.executions)
        await super().resume()

    def word(self, execution: Execution) -> trio.Event:
        return execution.settled

    def out(self) -> None:
        log.info(
            "Waiting for Salt to confirm wrapper execution for job %s...",
            job_of(self.ticket),
            extra=fields("launch.published", jid=job_of(self.ticket), machines=len(self.executions)),
        )

    async def answered(self, execution: Execution, answer: Answer) -> None:
        run, machine = execution.id.run, execution.id.machine
        if answer.code == 0:
            log.info(
                "Salt confirmed wrapper started on %s",
                machine,
                extra=fields("execution.confirmed", run=run, machine=machine),
            )
            execution.confirm()
            return
        if answer.code == UNTOLD:
            self.only_singly(machine)
            return self._give_again(execution)
        if execution.settled.is_set() or (answer.code == codes.REFUSED and machine in self._again):
            return  # of two copies of an order one is refused: what the other one does, the machine tells when asked
        log.warning(
            "Wrapper execution failed on %s (retcode=%d): %s",
            *(machine, answer.code, answer.text),
            extra=fields("execution.refused", run=run, machine=machine, code=answer.code),
        )
        execution.finish(outcomes.launch_failed(answer.code, answer.text))

    def question(self) -> Call:
        [execution, *_] = self.executions.values()
        return AskStatus(path=self.path, run=execution.id.run, attempt=execution.id.attempt)

    async def told(self, execution: Execution, answer: Answer) -> None:
        """What became of the order there? A machine that never saw it, or has no wrapper to ask, is given it again."""
        if execution.settled.is_set():
            return
        match wrapper_state(answer):
            case "running" | "finished":
                execution.confirm()
            case "refused":
                execution.finish(outcomes.launch_failed(codes.REFUSED, answer.text))
            case "lost":
                execution.finish(outcomes.failed("The wrapper died before it could record an end"))
            case "never seen":
                self._give_again(execution)
            case _:
                log.debug("%s cannot say what became of %s: %s", answer.machine, execution.id, answer.text)
                if answer.code in _NO_WRAPPER:
                    self._give_again(execution)

    def _give_again(self, execution: Execution) -> None:
        self._again.add(execution.id.machine)
        self._to_give.put(execution, self._nursery, self._give_all_again)

    async def _give_all_again(self, executions: Collection[Execution]) -> None:
        """By another name: a minion drops the first one as known, though what it answered may have been lost."""
        machines = [execution.id.machine for execution in executions]
        try:
            await hand_out(self.launcher, again(self.ticket), self.issue, machines)
        except LaunchError as error:
            fail(executions, error)


@attrs.define(eq=False)
class PlainLaunch(Launch):
    """Without a wrapper Salt's one answer is the end; until then the machine is asked whether it still runs."""

    _misses: dict[str, int] = attrs.field(factory=dict, init=False)

    def word(self, execution: Execution) -> trio.Event:
        return execution.ended

    def out(self) -> None:
        for execution in self.executions.values():
            execution.confirm()

    async def answered(self, execution: Execution, answer: Answer) -> None:
        await execution.output(wire.Output(seq=0, offset=0, data=answer.text.encode()))
        execution.finish(Outcome(end=End.EXITED, code=answer.code))

    def gone(self, machine: str) -> Outcome:
        return outcomes.LOST if self.patience.knows(machine) else outcomes.NO_RESPONSE

    def question(self) -> Call:
        return FindPlain(ticket=self.ticket)

    async def told(self, execution: Execution, answer: Answer) -> None:
        """Gone without an answer, several times: Salt lost it (it does, when its master restarts at the wrong time)."""
        missing = 0 if answer.text else self._misses.get(answer.machine, 0) + 1
        self._misses[answer.machine] = missing
        if missing >= _LOST_ANSWERS:
            execution.finish(outcomes.failed("The command is gone, and Salt has no answer from it"))


def wrapper_state(answer: Answer) -> str:
    """The `state` in an answer to AskStatus, "" when there is none."""
    try:
        return str(json.loads(answer.text)["state"]) if answer.code == 0 else ""
    except (ValueError, TypeError, KeyError):
        return ""
