"""How a command ended, as it stands on disk, and what the daemon is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from sp_wrapper import claim, spool, state, tree, wire
from sp_wrapper.codes import ERROR


def read_result(own: claim.Claim) -> wire.Complete | None:
    """The recorded end; None while there is none."""
    data = state.read(own.file("result"))
    return None if data is None else complete_of(json.loads(data))


def complete_of(result: Mapping[str, Any]) -> wire.Complete:
    return wire.Complete(
        retcode=result["retcode"],
        outcome=result["outcome"],
        length=result.get("length", 0),
        error=result.get("error", ""),
        receipt=_receipt(result.get("receipt")),
        rusage=wire.Usage(**result["rusage"]) if "rusage" in result else None,
        started=instant(result.get("started")),
        ended=instant(result.get("ended")),
    )


def give_up(own: claim.Claim, now: float) -> wire.Complete:
    """Record the end of a run whose supervisor died without a word. `now` is in seconds since the epoch."""
    result = {
        "retcode": ERROR,
        "outcome": "error",
        "lost": True,
        "error": "the wrapper was killed, or the machine restarted: the exit code is not known" + _still_running(own),
        "length": spool.SpoolReader(own.path).end(),
        "ended": now,
    }
    claim.finish(own, result)
    return complete_of(result)


def _still_running(own: claim.Claim) -> str:
    processes = own.processes()
    command = tree.look(processes.pid) if processes is not None and processes.pid else None
    if processes is None or command is None or command.start != processes.pid_start or command.state in tree.DEAD:
        return ""
    return f"; the command (pid {command.pid}) is still running"


def _receipt(fields: Mapping[str, Any] | None) -> wire.Receipt | None:
    if fields is None:
        return None
    return wire.Receipt(**{name: tuple(wire.Process(**proc) for proc in procs) for name, procs in fields.items()})


def instant(epoch_s: float | None) -> datetime | None:
    return None if epoch_s is None else datetime.fromtimestamp(epoch_s, timezone.utc)
