"""How an execution ends: values, and the codes that saltpeter gives itself."""

from __future__ import annotations

import enum

import attrs

from sp_wrapper import codes, wire

HEARTBEAT_LOST = 253  # the lease ran out
FAILED = 255  # the target did not respond, Salt or the wrapper failed

LEASE_S = 15.0  # what one heartbeat buys
MOST_TEXT = 16 * 1024  # characters of a machine's own account of an error

TERMINATED_TEXT = "[Job terminated by user request]"
NO_RESPONSE_TEXT = "Target did not respond"
MAINTENANCE_TEXT = "Target under maintenance"
LOST_TEXT = f"[SALTPETER ERROR: Job lost connection - no heartbeat for {LEASE_S:.0f} seconds]"


class End(enum.Enum):
    """The way an execution ended; the value is what the store and the wire call it."""

    EXITED = "exited"  # the command's own end, whatever its code
    TIMED_OUT = "timeout"
    KILLED = "killed"
    REFUSED = "refused"  # the machine refused it: claimed already, or the job's lock is held
    LOST = "lost"  # no heartbeat for a lease
    NO_RESPONSE = "no_response"  # neither the launch nor a ping was answered
    FAILED = "error"  # Salt or the wrapper could not run it, or a bug of ours
    MAINTENANCE = "maintenance"  # left out on purpose


@attrs.frozen(kw_only=True)
class Outcome:
    """One execution's end. `text` is what the system adds to the output, "" for nothing."""

    end: End
    code: int
    text: str = ""
    receipt: wire.Receipt | None = None
    usage: wire.Usage | None = None

    @property
    def succeeded(self) -> bool:
        return self.end is End.EXITED and self.code == 0

    @property
    def speaks_against_the_machine(self) -> bool:
        """It went wrong there, and nobody had meant it to: no kill, no refusal, no maintenance."""
        return not self.succeeded and self.end not in (End.KILLED, End.REFUSED, End.MAINTENANCE)

    @property
    def is_failure(self) -> bool:
        """It went wrong; a machine that was left out on purpose has not."""
        return not self.succeeded and self.end is not End.MAINTENANCE

    @property
    def by_machine(self) -> bool:
        """It is the wrapper's own word, to which nothing can come late."""
        return self.end in (End.EXITED, End.REFUSED) or self.receipt is not None


KILLED = Outcome(end=End.KILLED, code=codes.KILLED, text=TERMINATED_TEXT)
LOST = Outcome(end=End.LOST, code=HEARTBEAT_LOST, text=LOST_TEXT)
NO_RESPONSE = Outcome(end=End.NO_RESPONSE, code=FAILED, text=NO_RESPONSE_TEXT)
MAINTENANCE = Outcome(end=End.MAINTENANCE, code=FAILED, text=MAINTENANCE_TEXT)


def timed_out(timeout_s: float) -> Outcome:
    return Outcome(end=End.TIMED_OUT, code=codes.TIMED_OUT, text=f"[Job exceeded timeout of {timeout_s:g} seconds]")


def failed(text: str, code: int = FAILED) -> Outcome:
    return Outcome(end=End.FAILED, code=code, text=text)


def launch_failed(code: int, text: str) -> Outcome:
    """What Salt's answer to a launch means when it is not 0."""
    if code == codes.REFUSED:
        return Outcome(end=End.REFUSED, code=code, text=text)
    return failed(f"Wrapper execution failed:\n{text}", code if code in (126, 127) else FAILED)


def adds(late: Outcome, known: Outcome) -> bool:
    """Whether a machine's own word is worth keeping beside what counts. That nothing was run there is known already."""
    return late != known and not (late.end is End.FAILED and known.end is End.FAILED)


def reported(complete: wire.Complete) -> Outcome:
    """What a wrapper's own word for the end means. The texts of a kill are in its output already."""
    ends = {end.value: end for end in (End.EXITED, End.TIMED_OUT, End.KILLED, End.REFUSED)}
    end = ends.get(complete.outcome, End.FAILED)
    text = complete.error[:MOST_TEXT]
    return Outcome(end=end, code=complete.retcode, text=text, receipt=complete.receipt, usage=complete.rusage)
