"""Is the daemon ready for its work? What must hold, asked all at once and with a time limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import attrs
import trio

from saltpeter.engine.board import Board
from saltpeter.engine.launcher import Launcher
from saltpeter.engine.storage import StoreHealth
from saltpeter.errors import StoreError

PATIENCE_S = 5.0


@attrs.frozen
class Finding:
    """Whether something is as it must be, and in words how it is."""

    ok: bool
    text: str


Check: TypeAlias = Callable[[], Awaitable[Finding]]


async def look(checks: Mapping[str, Check]) -> dict[str, Finding]:
    """What each of `checks` finds; one that does not answer in time is not as it must be."""
    found: dict[str, Finding] = {}

    async def ask(name: str, check: Check) -> None:
        found[name] = Finding(False, f"no answer within {PATIENCE_S:g} seconds")
        with trio.move_on_after(PATIENCE_S):
            found[name] = await check()

    async with trio.open_nursery() as nursery:
        for name, check in checks.items():
            nursery.start_soon(ask, name, check)
    return {name: found[name] for name in checks}


def as_result(found: Mapping[str, Finding]) -> dict[str, Any]:
    return {
        "ready": all(finding.ok for finding in found.values()),
        "checks": {name: attrs.asdict(finding) for name, finding in found.items()},
    }


def always(text: str) -> Check:
    """What cannot be otherwise once the daemon answers at all."""

    async def check() -> Finding:
        return Finding(True, text)

    return check


def of_config(board: Board) -> Check:
    """There is a configuration, for without one the daemon does not start; what is wrong with it is said."""

    async def check() -> Finding:
        config = board.state.config
        return Finding(True, f"{len(config.jobs)} jobs in force, {len(config.problems)} problems")

    return check


def of_launcher(launcher: Launcher, name: str) -> Check:
    """The way to the machines answers."""

    async def check() -> Finding:
        ok = await launcher.reachable()
        return Finding(ok, f"{name} answers" if ok else f"{name} does not answer: no run can be started")

    return check


def of_store(health: Callable[[], Awaitable[StoreHealth]]) -> Check:
    """Facts can be made durable."""

    async def check() -> Finding:
        try:
            return judge(await health())
        except StoreError as error:
            return Finding(False, f"the store cannot be read: {error}")

    return check


def judge(health: StoreHealth) -> Finding:
    """How the store fares."""
    for name, writing in (("ledger", health.ledger), ("output", health.output)):
        if writing.failing_since is not None:
            return Finding(
                False, f"the {name} cannot be written since {writing.failing_since.isoformat()}: {writing.why}"
            )
    used = (health.ledger_bytes + health.output_bytes) // 1024**2
    return Finding(True, f"writing; {used} MiB used, {health.free_bytes // 1024**2} MiB of the disk free")
