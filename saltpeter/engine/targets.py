"""Which machines a run is for."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection

import trio

from saltpeter.domain.job import Job
from saltpeter.engine.launcher import Launcher, Ping
from saltpeter.engine.launching import always, hand_out
from saltpeter.errors import LaunchUnknown
from saltpeter.logs import fields

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 2.0


async def choose(job: Job, launcher: Launcher, *, respond_within_s: float, chance: random.Random) -> tuple[str, ...]:
    """The machines that `job`'s target names now; of many, as many as it wants, drawn from those that answer.

    Waits while nobody can say (the Salt master is down). Raises LaunchError for a target that is wrong.
    """
    machines = await _match(job, launcher)
    if job.number_of_targets is None or job.number_of_targets >= len(machines):
        return machines
    alive = await _first_to_answer(launcher, machines, job.number_of_targets, respond_within_s)
    drawn = chance.sample(sorted(alive), min(job.number_of_targets, len(alive)))
    silent = sorted(set(machines) - alive)
    return (*drawn, *chance.sample(silent, job.number_of_targets - len(drawn)))  # too few live: it shows as 255


async def _match(job: Job, launcher: Launcher) -> tuple[str, ...]:
    while True:
        try:
            return await launcher.match(job.target)
        except LaunchUnknown as unknown:
            log.warning("Cannot tell the targets of %s yet: %s", job.name, unknown, extra=fields("targets.unknown"))
        await trio.sleep(_ASK_AGAIN_S)


async def _first_to_answer(launcher: Launcher, machines: Collection[str], wanted: int, within_s: float) -> set[str]:
    """The machines that answer a ping: at least `wanted` of them, if so many do within `within_s` seconds.

    Those that answer as long again as `wanted` took are taken in too: else the nearest would win each time.
    """
    alive: set[str] = set()
    ticket = launcher.ticket()
    async with launcher.answers(ticket) as answers:
        await hand_out(launcher, ticket, always(Ping()), machines)
        asked_at = trio.current_time()
        with trio.move_on_after(within_s) as patience:
            async for answer in answers:
                alive.add(answer.machine)
                if len(alive) == wanted:
                    patience.deadline = min(patience.deadline, 2 * trio.current_time() - asked_at)
    return alive
