"""What plain HTTP offers: state to read, jobs to run and kill, health and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import attrs

from saltpeter.domain.access import Person
from saltpeter.endpoints import control_wire as wire
from saltpeter.endpoints import verbs, views
from saltpeter.endpoints.desk import Change, Question
from saltpeter.endpoints.forms import Kind, record
from saltpeter.endpoints.http import Handler, Request, Response, Routes, as_json
from saltpeter.endpoints.outlook import Outlook
from saltpeter.endpoints.records import Result
from saltpeter.errors import CommandRefused, StoreError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_KILL = record(verbs.Kill)

# What a refusal is in HTTP; what is not here is the request's fault.
_STATUS = {
    "unknown_job": 404,
    "unknown_run": 404,
    "unknown_machine": 404,
    "not_running": 409,
    "not_connected": 409,
    "not_held": 409,
    "overlap": 409,
    "maintenance": 409,
    "forbidden": 403,
    "store_failed": 503,
    "stopping": 503,
    "busy": 503,
}


def refusing(handler: Handler) -> Handler:
    """`handler`, with its refusals as responses."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except CommandRefused as exc:
            return as_json(_error(exc.code, str(exc)), _STATUS.get(exc.code, 400))
        except StoreError as exc:
            return as_json(_error("store_failed", str(exc)), 503)

    return answer


def _error(code: str, message: str) -> Result:
    return {"error": {"code": code, "message": message}}


@attrs.frozen
class Resources:
    """The resources of one daemon, each as whoever asks may see it."""

    outlook_of: Callable[[Person], Outlook]
    metrics: Callable[[], Awaitable[bytes]]

    def routes(self) -> Routes:
        return {
            ("GET", "/version"): self._version,
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._readiness,
            ("GET", "/metrics"): self._prometheus,
            ("GET", "/config"): self._config,
            ("GET", "/running"): self._running,
            ("GET", "/status"): self._status,
            ("GET", "/timeline"): refusing(self._timeline),
            ("POST", "/run"): refusing(self._asking(verbs.VERBS["run"])),
            ("POST", "/kill"): refusing(self._asking(_KILL)),
        }

    async def _version(self, request: Request) -> Response:
        return as_json({"version": self.outlook_of(request.person).sp_version})

    async def _health(self, request: Request) -> Response:
        """The daemon answers: that is all that it says."""
        outlook = self.outlook_of(request.person)
        now, serial = outlook.desk.queries.now(), outlook.board.state.serial
        return as_json({"status": "ok", "now": now.isoformat(), "serial": serial})

    async def _readiness(self, request: Request) -> Response:
        result = await self.outlook_of(request.person).desk.queries.vitals.readiness()
        return as_json(result, 200 if result["ready"] else 503)

    async def _prometheus(self, _request: Request) -> Response:
        return Response(200, await self.metrics(), METRICS_TYPE)

    async def _config(self, request: Request) -> Response:
        outlook = self.outlook_of(request.person)
        return as_json(views.config(outlook.board.state, outlook.desk.queries.now()))

    async def _running(self, request: Request) -> Response:
        return as_json(views.running(self.outlook_of(request.person).board.state))

    async def _status(self, request: Request) -> Response:
        outlook = self.outlook_of(request.person)
        state = outlook.board.state
        running, last_state = views.running(state), views.last_states(state)
        status = {"running": running, "last_state": last_state, "sp_version": outlook.sp_version}
        return as_json({**status, **views.store_problem(state)})

    async def _timeline(self, request: Request) -> Response:
        asked: verbs.GetTimeline = verbs.VERBS["getTimeline"].read("timeline", _query(request))
        return as_json(await self._answer(asked, request.person))

    async def _answer(self, asked: Change | Question, person: Person) -> Result:
        return await self.outlook_of(person).desk.answer(asked, person)

    def _asking(self, kind: Kind) -> Callable[[Request], Awaitable[Response]]:
        """Carry out what the body asks for; its end is not waited for, hence 202."""

        async def answer(request: Request) -> Response:
            asked: Change | Question = kind.read("body", dict(wire.read_object(request.body)))
            return as_json(await self._answer(asked, request.person), 202)

        return answer


def _query(request: Request) -> dict[str, Any]:
    """What the URL asks. A plus is a plus: it stands in times, where no space does."""
    return dict(parse_qsl(request.query.replace("+", "%2B"), keep_blank_values=True))
