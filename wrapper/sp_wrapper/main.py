"""What the wrapper's file does when it is run. Without arguments: take the order in the environment and go."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections import namedtuple

from sp_wrapper import __version__, authority, claim, state
from sp_wrapper.channel import Job
from sp_wrapper.codes import ERROR, REFUSED
from sp_wrapper.detach import detach
from sp_wrapper.journal import Journal
from sp_wrapper.order import Order, OrderError, parse
from sp_wrapper.reporters import Reporters
from sp_wrapper.supervisor import Supervisor

SECRET_BYTES = 24
SEVERAL = ["--orders"]

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing these would delay the command
    import socket
    from collections.abc import Mapping, Sequence


class Kept(namedtuple("Kept", "fds gate")):
    """Descriptors that the background processes need. Nothing of the network is loaded before the `gate`, where there
    is one, has nothing more to read: commands that wait to be started go first."""

    __slots__ = ()
    fds: tuple[int, ...]
    gate: int | None


def main(arguments: Sequence[str], *keep: int) -> int:
    """Answers the exit code. `keep` are descriptors that the background processes need, too."""
    if list(arguments) == SEVERAL:
        from sp_wrapper import several  # noqa: PLC0415 - as below

        gate, _ours = os.pipe()  # it opens when we end: no copy of the other side is anywhere else
        kept = Kept((*keep, gate), gate)
        return several.main(sys.stdin.buffer, sys.stdout, os.environ, lambda environ: take(secretly(environ), kept))
    if arguments:
        from sp_wrapper import queries  # noqa: PLC0415 - only what starts no command can wait for it

        return queries.main(arguments, os.environ)
    code, text = take(secretly(os.environ), Kept(keep, None))
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return code


def secretly(environ: Mapping[str, str]) -> dict[str, str]:
    """With a secret by which the daemon will know whom it talks to."""
    return {**environ, "SP_SECRET": os.urandom(SECRET_BYTES).hex()}


def take(environ: Mapping[str, str], kept: Kept) -> tuple[int, str]:
    """Take the order, and leave a supervisor behind that carries it out. Answers an exit code and one line."""
    code, text = _take(environ, kept)
    return code, f"sp_wrapper {__version__} {text}"


def _take(environ: Mapping[str, str], kept: Kept) -> tuple[int, str]:
    try:
        order = parse(environ)
        authority.check(environ, os.path.abspath(sys.argv[0]), time.time())
        home = state.StateDir(state.state_path(environ, os.geteuid()))
        own, claim_lock = claim.take(home, order, environ)
    except claim.Refused as exc:
        return REFUSED, f"refused: {exc}"
    except (OrderError, authority.Unauthorised, state.StateError) as exc:
        return ERROR, str(exc)
    except OSError as exc:
        return ERROR, f"the run could not be claimed: {exc}"
    locks = [claim_lock]
    try:
        job_lock = claim.take_job_lock(home, order)
        if job_lock is not None:
            locks.append(job_lock)
        detach(lambda: supervise(own, order, environ, job_lock, kept), keep=(*locks, *kept.fds))
    except claim.Refused as exc:
        claim.refuse(own, str(exc))
        return REFUSED, f"refused: {exc}"
    except OSError as exc:
        claim.finish(own, {"retcode": ERROR, "outcome": "error", "error": str(exc)})
        own.delivered()  # Salt's answer carries it
        return ERROR, f"the command could not be started: {exc}"
    finally:
        for lock in locks:
            os.close(lock)  # the supervisor holds it now
    return 0, f"started {order.instance}"


def supervise(own: claim.Claim, order: Order, environ: Mapping[str, str], job_lock: int | None, kept: Kept) -> None:
    """The life of the background process."""
    journal = Journal(order)
    try:
        reporters = Reporters(lambda job, its: report(job, its, kept.gate), journal, kept.fds)
        supervisor = Supervisor(own, order, environ, job_lock, reporters)
        supervisor.start()
        if any(claim.Claim(own.home, run).is_left() for run in own.home.pending() if run != own.run):
            supervisor.reporters.help(lambda: _deliver_leftovers(own.home, order))
        supervisor.run()
    except BaseException:  # the last boundary of the process; its reporter says that it died
        journal.note_exception()
        raise


def report(job: Job, supervisor: socket.socket, gate: int | None) -> int:
    if gate is not None:
        os.read(gate, 1)
    gc.disable()  # there is no garbage yet, and looking for it among all the modules takes long
    from sp_wrapper import reporter  # noqa: PLC0415 - the network stack, in the reporter's own process only

    gc.enable()
    return reporter.report(job, supervisor)


def _deliver_leftovers(home: state.StateDir, order: Order) -> None:
    from sp_wrapper import leftovers  # noqa: PLC0415 - as above

    state.prune(home, time.time())
    leftovers.deliver(home, order.report_for_s)
