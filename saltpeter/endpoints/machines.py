"""The machines' port: each connection is one wrapper that speaks for one execution, and for nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

import attrs
import trio

from saltpeter.domain.events import ExecutionId
from saltpeter.endpoints import intake
from saltpeter.endpoints.channel import UNWELCOME, Channel, Limits
from saltpeter.endpoints.http import Front, Upgrade
from saltpeter.endpoints.intake import Intake
from saltpeter.endpoints.session import Session
from saltpeter.endpoints.strangers import MOST
from saltpeter.endpoints.throttle import Lines
from saltpeter.engine.execution import BadToken, NotProven, Roster, UnknownExecution, Watch
from saltpeter.logs import fields
from sp_wrapper import frames, wire

FIRST_FRAME_S = 10.0
FIRST_FRAME_CHARS = 16 * 1024  # before we know who speaks
REMEMBERED = 10_000  # executions of 0.9.x wrappers whose numbers we know

# A known peer makes us hold 16 MiB at most. Of others enough is read for a head and a first message; that of
# a 0.9.x wrapper may be output.
LIMITS = Limits(message=wire.MAX_FRAME, queue=256, unknown=32 * 1024)
LEGACY_LIMITS = attrs.evolve(LIMITS, unknown=128 * 1024)

log = logging.getLogger(__name__)


class Refused(Exception):
    """The peer may not speak here; `code` is that of wire.Refusal."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@attrs.define(eq=False)
class MachinesEndpoint:
    """Who may speak for which execution. `now` gives the time as an aware datetime.

    `allow_legacy` lets wrappers of 0.9.x in: they show no token, and after a reconnect go on without a connect.
    """

    _roster: Roster
    _now: Callable[[], datetime]
    _allow_legacy: bool = False
    _sessions: dict[ExecutionId, Session] = attrs.field(factory=dict, init=False)
    _numbers: dict[ExecutionId, int] = attrs.field(factory=dict, init=False)  # next number of 0.9.x wrappers
    _lines: Lines = attrs.field(factory=Lines, init=False)

    def front(self, most_strangers: int = MOST) -> Front:
        """The port's server. Wrappers connect to any path."""
        limits = LEGACY_LIMITS if self._allow_legacy else LIMITS
        return Front({}, Upgrade(self.converse, limits, path=None), None, most_strangers=most_strangers)

    async def converse(self, channel: Channel) -> None:
        """Serve one connection to its end."""
        about = None
        try:
            frame = await self._first_frame(channel)
            about = frame.about
            hello, first = self._introduction(frame)
            watch = await self._find(about, hello)
            channel.admit()
            await self._serve(channel, about, watch, hello, first)
        except Refused as exc:
            await self._refuse(channel, about, exc.code, str(exc))
        except wire.RemoteProtocolError as exc:
            await self._refuse(channel, about, "PROTOCOL", str(exc))

    async def _first_frame(self, channel: Channel) -> frames.Frame:
        with trio.move_on_after(FIRST_FRAME_S):
            text = await channel.receive()
            if len(text) > FIRST_FRAME_CHARS and not self._allow_legacy:
                raise wire.RemoteProtocolError("the first message is too long")
            return intake.read(text)
        raise wire.RemoteProtocolError(f"no message within {FIRST_FRAME_S:g} seconds")

    def _introduction(self, frame: frames.Frame) -> tuple[wire.Connect, frames.Frame | None]:
        """What introduces the wrapper, and what it has said beyond that."""
        if isinstance(frame.message, wire.Connect):
            return frame.message, None
        if not self._allow_legacy:
            raise wire.RemoteProtocolError("the first message must be connect")
        return wire.Connect(), frame

    async def _find(self, about: wire.About, hello: wire.Connect) -> Watch:
        try:
            who = (about.job_instance, about.machine, hello.attempt)
            watch = await self._roster.find(*who, hello.token, hello.secret, proof=hello.proof)
        except UnknownExecution as exc:
            raise Refused("JOB_NOT_FOUND", "no such execution is running") from exc
        except NotProven as exc:
            raise Refused("BAD_TOKEN", str(exc)) from exc
        except BadToken as exc:
            raise Refused("BAD_TOKEN", "the token is not that run's, or another wrapper speaks for it there") from exc
        if watch.job_name != about.job_name:
            raise Refused("JOB_NOT_FOUND", "the run is of another job")
        return watch

    async def _serve(
        self, channel: Channel, about: wire.About, watch: Watch, hello: wire.Connect, first: frames.Frame | None
    ) -> None:
        length = await self._alone_from(watch)
        session = self._open(channel, about, watch, hello, length, implied=first is not None)
        try:
            await session.run(first)
        finally:
            watch.disconnected(session)
            self._forget(watch.id, session)
            self._remember(watch.id, session.durable_seq if hello.sent is None else None)

    async def _alone_from(self, watch: Watch) -> int:
        """The durable length, once no older connection of the same wrapper can add to it any more."""
        while True:
            while (older := self._sessions.get(watch.id)) is not None:
                await older.give_way()
                self._forget(watch.id, older)
            length = await watch.length()
            if watch.id not in self._sessions:
                return length

    def _forget(self, execution: ExecutionId, session: Session) -> None:
        if self._sessions.get(execution) is session:
            del self._sessions[execution]

    def _open(
        self, channel: Channel, about: wire.About, watch: Watch, hello: wire.Connect, length: int, *, implied: bool
    ) -> Session:
        number = self._numbers.get(watch.id)
        durable_seq = None if number is None else number - 1
        session = Session(channel, about, watch, self._now, Intake(length, number), durable_seq, hello.wants_secrets)
        self._sessions[watch.id] = session
        if not implied:
            session.tell(wire.Ack(ack_type="connect", offset=length))  # before anything that is pending: a kill
        name = f"{about.job_instance}:{about.machine}"
        facts = fields("wrapper.connected", run=about.job_instance, machine=about.machine, peer=channel.peer)
        log.info("WebSocket: Client connected - %s", name, extra=facts)
        watch.connected(session, hello)
        return session

    def _remember(self, execution: ExecutionId, durable_seq: int | None) -> None:
        self._numbers.pop(execution, None)
        if durable_seq is not None:
            self._numbers[execution] = durable_seq + 1
        if len(self._numbers) > REMEMBERED:
            del self._numbers[next(iter(self._numbers))]

    async def _refuse(self, channel: Channel, about: wire.About | None, code: str, text: str) -> None:
        whom = wire.About("", "", "") if about is None else about
        name = f"{whom.job_instance}:{whom.machine}" if about else channel.peer
        facts = fields("wrapper.refused", run=whom.job_instance, machine=whom.machine, peer=channel.peer, code=code)
        left_out = self._lines.allow(channel.peer, trio.current_time())
        if left_out is not None:
            more = f"; {left_out} more from there were refused and are not in the log" if left_out else ""
            log.warning("WebSocket: Refused %s: %s (%s)%s", name, text, code, more, extra=facts)
        channel.tell(intake.written(whom, wire.Refusal(code=code, message=text), self._now()))
        await channel.aclose(UNWELCOME, code)
