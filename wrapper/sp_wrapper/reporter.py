"""The process that tells the daemon: keeps a connection, and tells everything until it has been heard."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from math import inf

import attrs
import trio
from exceptiongroup import BaseExceptionGroup, catch

from sp_wrapper import channel, ending, identity, link, trust
from sp_wrapper.account import Account
from sp_wrapper.conversation import Conversation
from sp_wrapper.journal import Journal
from sp_wrapper.reporters import DELIVERED, GAVE_UP
from sp_wrapper.spool import SpoolReader

DEFAULT_TIMING = link.Timing()


def report(job: channel.Job, supervisor: socket.socket, timing: link.Timing = DEFAULT_TIMING) -> int:
    """Report a command that a supervisor runs, over `supervisor`. Answers the exit code of the process."""

    async def run() -> int:
        asking = trio.socket.from_stdlib_socket(supervisor)

        async def request(what: channel.Request) -> None:
            try:
                await asking.send(channel.encode_request(what))
            except OSError:  # the supervisor is gone: `_follow` sees it too
                account.journal.note(f"could not hand over {what}")

        account = Account(job, Journal(job.order), request, SpoolReader(job.claim.path), proof)
        account.length = account.reader.end()  # an earlier reporter may have come far
        reporter = Reporter(account, timing)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_follow, asking, reporter)
            delivered = await reporter.run()
            nursery.cancel_scope.cancel()
        return DELIVERED if delivered else GAVE_UP

    proof = _proof(job)
    return trio.run(run)


async def report_leftover(job: channel.Job, timing: link.Timing = DEFAULT_TIMING) -> bool:
    """Report a run whose supervisor is gone; the caller holds the claim's lock. Answers whether it was heard."""

    async def request(_: object) -> None:
        """There is nobody left to ask."""

    proof = await trio.to_thread.run_sync(_proof, job)
    account = Account(job, Journal(job.order), request, SpoolReader(job.claim.path), proof)
    reporter = Reporter(account, timing)
    reporter.end(inf)  # the caller has a limit of its own
    return await reporter.run()


def _proof(job: channel.Job) -> str:
    """Which machine this is, proven; "" where that is not asked for, or cannot be done. Blocks."""
    try:
        return identity.prove(job.order)
    except identity.NoProof as exc:
        Journal(job.order).note(str(exc))
        return ""


@attrs.define
class Reporter:
    account: Account
    timing: link.Timing
    _patience: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    def end(self, report_for_s: float) -> None:
        """The command has ended, or its supervisor: from now on there is a limit to how long it is worth trying."""
        own = self.account.job.claim
        self.account.end(ending.read_result(own) or ending.give_up(own, time.time()))
        self._patience.deadline = trio.current_time() + report_for_s

    async def run(self) -> bool:
        """Report until heard. False when the reporting time is over."""
        with self._patience:
            await self._keep_talking()
            self.account.job.claim.delivered()
            return True
        return False

    async def _keep_talking(self) -> None:
        failures = 0
        while True:
            since = trio.current_time()
            conversation = Conversation(self.account, self.timing)
            with catch({link.ERRORS: self._note}):
                async with link.dial(self.account.job.order, self.account.about, self.timing) as line:
                    self.account.job.claim.note_trouble("")
                    await conversation.run(line)
            if conversation.heard:
                return
            sound = conversation.fruitful or trio.current_time() - since > self.timing.sound_s
            failures = 0 if sound else failures + 1
            await trio.sleep(self.timing.delay_s(failures, random.random()))  # noqa: S311 - spreads, hides nothing

    def _note(self, lost: BaseExceptionGroup[BaseException]) -> None:
        distrusted = lost.subgroup(trust.Distrusted)
        if distrusted is None:
            return self.account.journal.debug(f"connection lost: {lost.exceptions[0]!r}")
        problem = str(next(leaves(distrusted)))
        if self.account.job.claim.note_trouble(problem):
            self.account.journal.note(f"{problem}; what there is to report is kept, and it is tried again")


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from leaves(each)
        else:
            yield each


async def _follow(supervisor: trio.socket.SocketType, reporter: Reporter) -> None:
    """Learn what the supervisor says, until it says that the command has ended, or is gone."""
    account = reporter.account
    while account.ending is None:
        try:
            data = await supervisor.recv(4096)
        except OSError:
            data = b""
        facts = channel.Facts.decode(data) if data else None
        if facts is not None:
            account.learn(facts)
        if facts is None or facts.recorded:
            reporter.end(account.job.order.report_for_s)
