"""What the wrapper's file does when it is run. Without arguments: take the order in the environment and go."""

from __future__ import annotations

import os
import sys
import time

from sp_wrapper import __version__, authority, claim, state
from sp_wrapper.channel import Job
from sp_wrapper.codes import ERROR, REFUSED
from sp_wrapper.detach import detach
from sp_wrapper.journal import Journal
from sp_wrapper.order import Order, OrderError, parse
from sp_wrapper.reporters import Reporters
from sp_wrapper.supervisor import Supervisor

SECRET_BYTES = 24

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing these would delay the command
    import socket
    from collections.abc import Mapping, Sequence


def main(arguments: Sequence[str], *keep: int) -> int:
    """Answers the exit code. `keep` are descriptors that the background processes need, too."""
    if arguments:
        from sp_wrapper import queries  # noqa: PLC0415 - only what starts no command can wait for it

        return queries.main(arguments, os.environ)
    return launch({**os.environ, "SP_SECRET": os.urandom(SECRET_BYTES).hex()}, keep)


def launch(environ: Mapping[str, str], keep: tuple[int, ...] = ()) -> int:
    """Take the order, leave a supervisor behind that carries it out, and say so in one line."""
    try:
        order = parse(environ)
        authority.check(environ, os.path.abspath(sys.argv[0]), time.time())
        home = state.StateDir(state.state_path(environ, os.geteuid()))
        own, claim_lock = claim.take(home, order, environ)
    except claim.Refused as exc:
        return _say(f"refused: {exc}", REFUSED)
    except (OrderError, authority.Unauthorised, state.StateError) as exc:
        return _say(str(exc), ERROR)
    except OSError as exc:
        return _say(f"the run could not be claimed: {exc}", ERROR)
    try:
        job_lock = claim.take_job_lock(home, order)
        locks = (claim_lock,) if job_lock is None else (claim_lock, job_lock)
        detach(lambda: supervise(own, order, environ, job_lock, keep), keep=(*locks, *keep))
    except claim.Refused as exc:
        claim.refuse(own, str(exc))
        return _say(f"refused: {exc}", REFUSED)
    except OSError as exc:
        claim.finish(own, {"retcode": ERROR, "outcome": "error", "error": str(exc)})
        own.delivered()  # Salt's answer carries it
        return _say(f"the command could not be started: {exc}", ERROR)
    return _say(f"started {order.instance}", 0)


def supervise(
    own: claim.Claim, order: Order, environ: Mapping[str, str], job_lock: int | None, keep: tuple[int, ...]
) -> None:
    """The life of the background process."""
    journal = Journal(order)
    try:
        supervisor = Supervisor(own, order, environ, job_lock, Reporters(report, journal, keep))
        supervisor.start()
        if any(claim.Claim(own.home, run).is_left() for run in own.home.pending() if run != own.run):
            supervisor.reporters.help(lambda: _deliver_leftovers(own.home, order))
        supervisor.run()
    except BaseException:  # the last boundary of the process; its reporter says that it died
        journal.note_exception()
        raise


def report(job: Job, supervisor: socket.socket) -> int:
    from sp_wrapper import reporter  # noqa: PLC0415 - the network stack, in the reporter's own process only

    return reporter.report(job, supervisor)


def _deliver_leftovers(home: state.StateDir, order: Order) -> None:
    from sp_wrapper import leftovers  # noqa: PLC0415 - as above

    state.prune(home, time.time())
    leftovers.deliver(home, order.report_for_s)


def _say(text: str, code: int) -> int:
    sys.stdout.write(f"sp_wrapper {__version__} {text}\n")
    sys.stdout.flush()
    return code
