"""The wrapper's answers to questions about runs on this machine, each one line of JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sp_wrapper import __version__, claim, state, tree
from sp_wrapper.order import OrderError, signal_number

REPORT_FOR_S = 60.0
KILL_EXTRA_S = 2.0  # what a kill may take beyond its grace
GRACE_S = 5.0  # of a run whose order is gone
LOOK_EVERY_S = 0.05

EPILOG = (
    "Without arguments the order is read from the environment (SP_*), as Salt's cmd.run passes it. "
    "With --orders, which stands alone, several are read from stdin."
)


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Answers the exit code."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.version:
        sys.stdout.write(f"sp_wrapper {__version__}\n")
        return 0
    try:
        home = state.StateDir(state.state_path(environ, os.geteuid()))
        answer, code = _answer(asked, home, environ)
    except (state.StateError, OrderError, OSError, ValueError) as exc:
        answer, code = {"error": str(exc)}, 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sp_wrapper", description=__doc__, epilog=EPILOG)
    parser.add_argument("--attempt", type=int, default=1, help="which attempt of the run (default 1)")
    parser.add_argument("--signal", metavar="NAME", help="to kill with first, in place of the order's")
    parser.add_argument("--grace", metavar="SECONDS", type=float, help="from there to KILL, in place of the order's")
    one = parser.add_mutually_exclusive_group(required=True)
    one.add_argument("--version", action="store_true", help="say the version")
    one.add_argument("--status", metavar="INSTANCE", help="how is the run? SP_MACHINE_ID says on which machine")
    one.add_argument("--kill", metavar="INSTANCE", help="end the run, as a user would")
    one.add_argument("--report", action="store_true", help="deliver what earlier wrappers could not")
    return parser


def _answer(asked: argparse.Namespace, home: state.StateDir, environ: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    if asked.report:
        from sp_wrapper import leftovers  # noqa: PLC0415 - the network stack, which no other question needs

        delivered, left = leftovers.deliver(home, float(environ.get("SP_REPORT_FOR_S") or REPORT_FOR_S))
        return {"delivered": delivered, "left": left}, 0
    machine = environ.get("SP_MACHINE_ID", "")
    if not machine:
        raise OrderError("SP_MACHINE_ID", "is not set")
    own = claim.Claim(home, home.run_of(machine, asked.status or asked.kill, asked.attempt))
    if asked.status:
        return status(own), 0
    return kill(own, asked.signal, asked.grace)


def status(own: claim.Claim) -> dict[str, Any]:
    """`state` is one of running, finished, refused, lost, never seen."""
    if not own.exists():
        return {"state": "never seen", "version": __version__}
    processes = own.processes()
    facts: dict[str, Any] = {"version": processes.version if processes else __version__}
    if processes and processes.pid:
        facts["pid"] = processes.pid
    if trouble := own.trouble():
        facts["trouble"] = trouble
    data = state.read(own.file("result"))
    if data is None:
        return {"state": "running" if own.is_worked_on() else "lost"} | facts
    result = json.loads(data)
    facts |= {"retcode": result["retcode"], "outcome": result["outcome"]}
    if result.get("lost"):
        return {"state": "lost"} | facts
    return {"state": "refused" if result["outcome"] == "refused" else "finished"} | facts


def kill(own: claim.Claim, signal_name: str | None, grace_s: float | None) -> tuple[dict[str, Any], int]:
    """End the run and wait for that. Code 0 when it has ended. None: as its order says. Raises OrderError."""
    manner = _manner(own, signal_name, grace_s)
    if own.exists():
        own.write_manner(manner if signal_name is not None or grace_s is not None else None)
    _ask_supervisor(own, manner.grace_s)
    found = status(own)
    ended = found["state"] in ("finished", "refused")
    processes = own.processes()
    if found["state"] == "lost" and processes is not None and processes.pid:
        ended = _end_session(processes, manner)
    return {"ended": ended} | found, 0 if ended else 1


def _manner(own: claim.Claim, signal_name: str | None, grace_s: float | None) -> claim.Manner:
    wanted = own.order() if own.exists() else None
    usual = (signal.SIGTERM, GRACE_S) if wanted is None else (wanted.kill_signal, wanted.grace_s)
    signum = usual[0] if signal_name is None else signal_number(signal_name)
    if signum is None:
        raise OrderError("--signal", f"{signal_name!r} is no signal")
    return claim.Manner(signum, usual[1] if grace_s is None else max(0.0, grace_s))


def _ask_supervisor(own: claim.Claim, grace_s: float) -> None:
    """Let the supervisor end the run, as long as there is one."""
    limit, asked = time.monotonic() + grace_s + KILL_EXTRA_S, False
    while time.monotonic() < limit and status(own)["state"] == "running":
        asked = asked or _ask(own.processes())
        time.sleep(LOOK_EVERY_S)


def _end_session(processes: claim.Processes, manner: claim.Manner) -> bool:
    """End what is left of a command whose supervisor is gone: its session, all that can still be told to be its."""

    def members() -> list[tree.Proc]:
        return tree.of_session(processes.pid, processes.pid_start, tree.everything())

    ending = tree.TreeKill(members, tree.send, manner.signum, time.monotonic() + manner.grace_s)
    while not ending.step(time.monotonic()):
        time.sleep(LOOK_EVERY_S)
    return not members()


def _ask(processes: claim.Processes | None) -> bool:
    """Signal the supervisor. False when it has not said yet who it is."""
    if processes is None:
        return False
    supervisor = tree.look(processes.supervisor)
    if supervisor is not None and supervisor.start == processes.supervisor_start:
        os.kill(supervisor.pid, signal.SIGTERM)
    return True
