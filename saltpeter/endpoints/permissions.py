"""Who may ask for what: the one place that says so. No IO.

Whatever is not in these tables is for administrators only, and not for those who are limited to groups of jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saltpeter.domain.access import Person, Role
from saltpeter.endpoints import verbs
from saltpeter.errors import CommandRefused

# Asked of single jobs, or answered with what concerns some jobs only: also for those who are limited to groups of jobs.
REQUESTS_OF_GROUPS: Mapping[type[Any], Role] = {
    verbs.Hello: Role.VIEWER,
    verbs.Subscribe: Role.VIEWER,
    verbs.Unsubscribe: Role.VIEWER,
    verbs.Leave: Role.VIEWER,
    verbs.Acknowledge: Role.VIEWER,
    verbs.GetRuns: Role.VIEWER,
    verbs.GetRun: Role.VIEWER,
    verbs.GetLatest: Role.VIEWER,
    verbs.GetMatrix: Role.VIEWER,
    verbs.GetPassed: Role.VIEWER,
    verbs.GetAlike: Role.VIEWER,
    verbs.GetOutput: Role.VIEWER,
    verbs.GetTimeline: Role.VIEWER,
    verbs.GetActive: Role.VIEWER,
    verbs.GetBars: Role.VIEWER,
    verbs.GetMachines: Role.VIEWER,
    verbs.GetMachine: Role.VIEWER,
    verbs.Health: Role.VIEWER,
    verbs.Next: Role.VIEWER,
    verbs.Why: Role.VIEWER,
    verbs.Stats: Role.VIEWER,
    verbs.ShowMaintenance: Role.VIEWER,
    verbs.Run: Role.OPERATOR,
    verbs.Kill: Role.OPERATOR,
    verbs.Signal: Role.OPERATOR,
}
REQUESTS_OF_ALL: Mapping[type[Any], Role] = {
    verbs.Hold: Role.OPERATOR,
    verbs.Release: Role.OPERATOR,
    verbs.Reload: Role.OPERATOR,
    verbs.GetAudit: Role.ADMIN,
}
OF_REQUESTS: Mapping[type[Any], Role] = {**REQUESTS_OF_GROUPS, **REQUESTS_OF_ALL}

# Of HTTP. The page's own files are open, since a browser must be able to show the question for the token; they hold
# nothing of this daemon. /healthz is, so that whoever watches the process needs no secret: it says that it lives.
ROUTES_OF_GROUPS: Mapping[tuple[str, str], Role] = {
    ("GET", "/"): Role.NOBODY,
    ("GET", "/healthz"): Role.NOBODY,
    ("GET", "/whoami"): Role.NOBODY,
    ("POST", "/login"): Role.NOBODY,
    ("POST", "/logout"): Role.NOBODY,
    ("GET", "/ws"): Role.VIEWER,
    ("GET", "/version"): Role.VIEWER,
    ("GET", "/readyz"): Role.VIEWER,
    ("GET", "/config"): Role.VIEWER,
    ("GET", "/running"): Role.VIEWER,
    ("GET", "/status"): Role.VIEWER,
    ("GET", "/timeline"): Role.VIEWER,
    ("POST", "/run"): Role.OPERATOR,
    ("POST", "/kill"): Role.OPERATOR,
}
ROUTES_OF_ALL: Mapping[tuple[str, str], Role] = {("GET", "/metrics"): Role.VIEWER}
OF_ROUTES: Mapping[tuple[str, str], Role] = {**ROUTES_OF_GROUPS, **ROUTES_OF_ALL}
OPEN_FILES = "/web/"  # GET of what begins so


class Forbidden(CommandRefused):
    """The person's role does not reach so far."""

    def __init__(self, person: Person, least: Role) -> None:
        super().__init__("forbidden", f"that needs the role {least.value}; {person.by} is {person.role.value}")


class OfAllGroups(CommandRefused):
    """The person is limited to groups of jobs, and this concerns all."""

    def __init__(self, person: Person) -> None:
        groups = ", ".join(sorted(person.groups or ()))
        super().__init__("forbidden", f"that concerns the jobs of all groups; {person.by} is limited to {groups}")


def of_request(asked: object) -> Role:
    """The least role that may ask this."""
    return OF_REQUESTS.get(type(asked), Role.ADMIN)


def of_route(method: str, path: str) -> Role:
    """The least role that may use this route."""
    wanted = _as_got(method)
    if wanted == "GET" and path.startswith(OPEN_FILES):
        return Role.NOBODY
    return OF_ROUTES.get((wanted, path), Role.ADMIN)


def _as_got(method: str) -> str:
    """HEAD goes where GET does."""
    return "GET" if method == "HEAD" else method


def require(person: Person, asked: object) -> None:
    """Raises Forbidden or OfAllGroups unless `person` may ask this."""
    _require(person, of_request(asked), is_of_groups=type(asked) in REQUESTS_OF_GROUPS)


def require_route(person: Person, method: str, path: str) -> None:
    """Raises Forbidden or OfAllGroups unless `person` may use this route."""
    least = of_route(method, path)
    _require(person, least, is_of_groups=least is Role.NOBODY or (_as_got(method), path) in ROUTES_OF_GROUPS)


def _require(person: Person, least: Role, *, is_of_groups: bool) -> None:
    if not person.role.includes(least):
        raise Forbidden(person, least)
    if person.groups is not None and not is_of_groups:
        raise OfAllGroups(person)
