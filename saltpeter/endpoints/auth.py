"""Who is at the other end of the control port: by a token, by a browser's session, or by the way they came."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Protocol

import attrs
import trio

from saltpeter.domain.access import NOBODY, Credential, Person, Role, is_name, recognise
from saltpeter.endpoints import permissions
from saltpeter.endpoints.channel import UNIX
from saltpeter.endpoints.control_wire import read_object
from saltpeter.endpoints.forms import BadRequest
from saltpeter.endpoints.hosts import is_ours
from saltpeter.endpoints.http import Request, Response, Routes, as_json
from saltpeter.endpoints.throttle import Throttle, delay_s, is_worth_a_record
from saltpeter.engine.audit import Entry, Note, Unaudited
from saltpeter.errors import CommandRefused
from saltpeter.logs import fields

SESSION_S = 12 * 3600  # a working day
LOOK_S = 2.0  # how soon a revoked token ends what is open
HOST_HINT = "if that is its name, add it to api_ws_hosts in saltpeter_config"
LONGEST_TOKEN = 256  # characters

log = logging.getLogger(__name__)


class Tokens(Protocol):
    """People's tokens."""

    @property
    def problem(self) -> str:
        """Why none is accepted, if so."""

    def current(self) -> tuple[Credential, ...] | None:
        """Those that are good now; None while none was ever made."""


class NoTokens:
    """Nobody ever made one."""

    problem = ""

    def current(self) -> None:
        return None


@attrs.define(eq=False)
class Gate:
    """Says who a request comes from, and whether it may pass.

    Over TCP a token is asked for as soon as one was made, or always where `required` says so, and the daemon answers to
    addresses and to `hosts`. `now` gives the time as an aware datetime, `key` makes sessions unforgeable.
    """

    _tokens: Tokens
    _key: bytes = attrs.field(repr=False)
    _now: Callable[[], datetime]
    _required: Callable[[], bool] = lambda: False
    _hosts: Callable[[], Collection[str]] = tuple
    _note: Note = Unaudited().note
    _throttle: Throttle = attrs.field(factory=Throttle, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _seen: tuple[Credential, ...] | None = attrs.field(default=None, init=False)

    # --- who ------------------------------------------------------------------------------------

    @property
    def asks(self) -> bool:
        """Whether TCP has to show a token."""
        return self._required() or self._tokens.current() is not None

    async def admit(self, request: Request) -> Person | Response:
        """Who asks, if they may use that route; else what they are answered."""
        if not request.peer.startswith(UNIX) and not is_ours(host := request.headers.get("host", ""), self._hosts()):
            return _refusal(421, "unknown_host", f"this daemon does not know itself as {host[:100]!r}; {HOST_HINT}")
        person = await self.identify(request)
        if person is None:
            return _refusal(401, "bad_token", "that token is not known here (any more)")
        try:
            permissions.require_route(person, request.method, request.path)
        except CommandRefused as refused:
            return await self._refuse(request, person, refused)
        return person

    async def _refuse(self, request: Request, person: Person, refused: CommandRefused) -> Response:
        if person is NOBODY:
            return _refusal(401, "login_required", self._how_to_log_in())
        what = {"route": f"{request.method} {request.path}"}
        entry = Entry(at=self._now(), who=person.by, peer=person.peer, did="request", what=what, result=refused.code)
        await self._note(entry)
        return _refusal(403, refused.code, str(refused))

    async def identify(self, request: Request) -> Person | None:
        """Who asks: NOBODY who shows nothing, None who shows something wrong, which takes a while."""
        if request.peer.startswith(UNIX):
            return Person(by=request.peer, role=Role.ADMIN, peer=request.peer)
        if not self.asks:
            return Person(by=request.peer, role=Role.ADMIN, peer=request.peer)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self.by_token(token.strip(), request.peer)
        credential = self._by_session(_cookie(request))
        return NOBODY if credential is None else _person(credential, request.peer)

    async def by_token(self, token: str, peer: str) -> Person | None:
        """Whose token that is; who guesses waits longer each time."""
        credential = recognise(self._tokens.current() or (), token[:LONGEST_TOKEN])
        if credential is not None:
            return _person(credential, peer)
        failures = self._throttle.failed(peer, trio.current_time())
        if is_worth_a_record(failures):
            facts = fields("login.failed", peer=peer, failures=failures)
            what = {"times_in_a_row": failures}
            await self._note(Entry(at=self._now(), who="nobody", peer=peer, did="login", what=what, result="bad_token"))
            log.warning("Login of %s failed (%d times in a row)", peer, failures, extra=facts)
        await trio.sleep(delay_s(failures))
        return None

    def holds(self, person: Person) -> bool:
        """Whether what let `person` in still would."""
        if person.peer.startswith(UNIX):
            return True
        if person.credential is None:
            return not self.asks
        return person.credential in (self._tokens.current() or ())

    async def until_shut(self, person: Person) -> None:
        """Return once `person` would not be let in any more."""
        while self.holds(person):
            await self._changed.wait()

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Notice when tokens come and go, for those who are inside."""
        self._seen, asked = self._tokens.current(), self.asks
        task_status.started()
        while True:
            await trio.sleep(LOOK_S)
            if (self._tokens.current(), self.asks) != (self._seen, asked):
                self._seen, asked = self._tokens.current(), self.asks
                log.info("The tokens of people have changed", extra=fields("tokens.changed"))
                if self._tokens.problem:
                    log.error("Nobody gets in by a token: %s", self._tokens.problem, extra=fields("tokens.rejected"))
                self._changed.set()
                self._changed = trio.Event()

    def _how_to_log_in(self) -> str:
        if self._tokens.problem:
            return "no token is accepted now: the daemon's log says why"
        if not self._tokens.current():
            return "a token is needed, and none exists: `saltpeter token add NAME --role admin` on the daemon's host"
        return "a token is needed (Authorization: Bearer ..., or POST /login)"

    # --- browsers -------------------------------------------------------------------------------

    def routes(self) -> Routes:
        return {
            ("GET", "/whoami"): self._whoami,
            ("POST", "/login"): self._login,
            ("POST", "/logout"): self._logout,
        }

    async def _whoami(self, request: Request) -> Response:
        return as_json(self._told_about(request.person))

    def _told_about(self, person: Person) -> dict[str, Any]:
        known = person is not NOBODY
        return {
            "name": person.by if known else None,
            "role": person.role.value if known else None,
            "login_required": self.asks and not known,
            "by_token": person.credential is not None,
            "groups": None if person.groups is None else sorted(person.groups),
        }

    async def _login(self, request: Request) -> Response:
        """Take a token for a session's cookie: a browser can show nothing else when it opens a WebSocket."""
        try:
            token = read_object(request.body).get("token")
        except BadRequest as exc:
            return _refusal(400, exc.code, str(exc))
        if not isinstance(token, str):
            return _refusal(400, "bad_value", "token must be a string")
        person = await self.by_token(token.strip(), request.peer)
        if person is None or person.credential is None:
            return _refusal(401, "bad_token", "that token is not known here (any more)")
        expiry = int(self._now().timestamp()) + SESSION_S
        cookie = f"{expiry}.{self._seal(person.credential, expiry)}.{person.credential.name}"
        return _with_cookie(self._told_about(person), request, cookie, SESSION_S)

    async def _logout(self, request: Request) -> Response:
        return _with_cookie({}, request, "", 0)

    def _by_session(self, cookie: str) -> Credential | None:
        expiry, _, rest = cookie.partition(".")
        seal, _, name = rest.partition(".")
        if not (expiry.isascii() and expiry.isdigit() and len(expiry) < 16 and is_name(name)):
            return None
        if int(expiry) < self._now().timestamp():
            return None
        for each in self._tokens.current() or ():
            if each.name == name and hmac.compare_digest(self._seal(each, int(expiry)), seal):
                return each
        return None

    def _seal(self, credential: Credential, expiry: int) -> str:
        """What only we can have put beside that name and time; of the token, so that it dies with it."""
        sealed = f"{credential.digest}|{credential.name}|{expiry}"
        return hmac.new(self._key, sealed.encode(), hashlib.sha256).hexdigest()


def _person(credential: Credential, peer: str) -> Person:
    return Person(by=f"token:{credential.name}", role=credential.role, peer=peer, credential=credential)


def _refusal(status: int, code: str, message: str) -> Response:
    response = as_json({"error": {"code": code, "message": message}}, status)
    return attrs.evolve(response, headers=[("WWW-Authenticate", "Bearer")]) if status == 401 else response


def _cookie_name(*, secure: bool) -> str:
    """__Host- makes a browser insist on TLS, and on this very host."""
    return "__Host-saltpeter" if secure else "saltpeter"


def _with_cookie(body: Mapping[str, Any], request: Request, value: str, age_s: int) -> Response:
    flags = f"Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict" + ("; Secure" if request.secure else "")
    cookie = f"{_cookie_name(secure=request.secure)}={value}; {flags}"
    return attrs.evolve(as_json(body), headers=[("Set-Cookie", cookie)])


def _cookie(request: Request) -> str:
    for each in request.headers.get("cookie", "").split(";"):
        name, _, value = each.strip().partition("=")
        if name == _cookie_name(secure=request.secure):
            return value
    return ""
