"""`saltpeter_config` and `saltpeter_maintenance`, which may stand in any file: put together from all of them."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
from typing import Any

import attrs

from saltpeter.domain import values
from saltpeter.domain.document import MAINTENANCE_KEY, SETTINGS_KEY, Document
from saltpeter.domain.job import KEEP_EVERYTHING, Maintenance, Settings
from saltpeter.domain.written import Fault, Keys, WrittenMaintenance, WrittenSettings, read
from saltpeter.domain.yamltext import Scalar
from saltpeter.errors import Problem

NEEDS_RESTART = frozenset(
    {
        "statedir",
        "logdir",
        "api_ws",
        "api_ws_port",
        "api_ws_bind_addr",
        "socket_group",
        "tls_certificate",
        "tls_key",
        "insecure",
        "machines_ws_port",
        "machines_ws_bind_addr",
        "allow_legacy_wrappers",
        "executor",
        "master_config",
        "default_saltpeter_server_host",
    }
)

# Where a key lands in Settings; the others are called the same in both.
_ATTRIBUTES = {
    "default_saltpeter_server_host": "server_host",
    "default_wrapper_path": "wrapper.path",
    "default_wrapper_loglevel": "wrapper.loglevel",
    "default_wrapper_logdir": "wrapper.logdir",
    "respond_within": "respond_within_s",
    "order_valid_for": "order_valid_for_s",
}
_OF_NO_USE = {
    "elasticsearch": "saltpeter keeps the history itself",
    "elasticsearch_index": "saltpeter keeps the history itself",
    "opensearch": "saltpeter keeps the history itself",
    "opensearch_index": "saltpeter keeps the history itself",
}


@attrs.frozen
class _Said:
    value: Any
    place: str


def merge_settings(
    documents: Collection[Document], last: Settings | None, defaults: Settings
) -> tuple[Settings, list[Problem]]:
    """The settings of all files; where two differ, the first counts. A bad value leaves that of `last`.

    Where there is no `last` and nobody knows what is to be kept, everything is.
    """
    problems: list[Problem] = []
    said: dict[str, _Said] = {}
    guessed = last is None and any(document.entries is None for document in documents)
    for document, written in _sections(documents, SETTINGS_KEY, WrittenSettings, problems):
        keys = _checked(written)
        problems += [fault.problem(document.path, SETTINGS_KEY) for fault in keys.faults]
        for key, value in keys.values.items():
            plain = value.value if isinstance(value, enum.Enum) else value
            first = said.setdefault(key, _Said(plain, f"{document.path}:{keys.lines[key]}"))
            if first.value != plain:
                fault = Fault(key, keys.lines[key], f"says something else than {first.place}, which counts")
                problems.append(fault.problem(document.path, SETTINGS_KEY))
        guessed |= last is None and "retention" in keys.bad
        if last is not None:
            for key in keys.bad - _OF_NO_USE.keys():
                said.setdefault(key, _Said(_get(last, key), document.path))
    settings = defaults
    for key, each in said.items():
        settings = _with(settings, key, each.value)
    if guessed and "retention" not in said:
        settings = attrs.evolve(settings, retention=KEEP_EVERYTHING)
    return settings, problems


def merge_maintenance(documents: Collection[Document], last: Maintenance | None) -> tuple[Maintenance, list[Problem]]:
    """The maintenance of all files together. A bad value leaves that of `last`."""
    problems: list[Problem] = []
    everything, machines = False, frozenset[str]()
    for document, keys in _sections(documents, MAINTENANCE_KEY, WrittenMaintenance, problems):
        problems += [fault.problem(document.path, MAINTENANCE_KEY) for fault in keys.faults]
        kept = last or Maintenance()
        everything |= kept.everything if "global_" in keys.bad else keys.values.get("global_", False)
        machines |= kept.machines if "machines" in keys.bad else frozenset(keys.values.get("machines", ()))
    return Maintenance(everything=everything, machines=machines), problems


def changed_for_restart(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys that differ and whose change takes effect at the next start only, sorted."""
    return tuple(sorted(key for key in NEEDS_RESTART if _get(old, key) != _get(new, key)))


def _sections(
    documents: Collection[Document], name: str, kind: type[attrs.AttrsInstance], problems: list[Problem]
) -> Iterator[tuple[Document, Keys]]:
    for document in documents:
        for index, (key, node) in enumerate(document.parts(name)):
            if index:
                problems.append(Problem(document.path, key.line, name, "", "was given before in this file"))
            elif not (isinstance(node, Scalar) and node.is_null):
                yield document, read(kind, node)


def _checked(keys: Keys) -> Keys:
    """What a key's type cannot tell: whether the zone exists, and that some keys do nothing."""
    faults = [
        Fault(key, keys.lines[key], f"has no effect: {_OF_NO_USE[key]}", fatal=False)
        for key, value in keys.values.items()
        if key in _OF_NO_USE and value
    ]
    good = {key: value for key, value in keys.values.items() if key not in _OF_NO_USE}
    bad = keys.bad
    try:
        values.zone(good.get("timezone", "UTC"))
    except values.Wrong as exc:
        faults.append(Fault("timezone", keys.lines["timezone"], exc.problem))
        del good["timezone"]
        bad |= {"timezone"}
    return attrs.evolve(keys, values=good, faults=(*keys.faults, *faults), bad=bad)


def _get(settings: Settings, key: str) -> object:
    found: Any = settings
    for name in _ATTRIBUTES.get(key, key).split("."):
        found = getattr(found, name)
    return found


def _with(settings: Settings, key: str, value: Any) -> Settings:
    name, _, inner = _ATTRIBUTES.get(key, key).partition(".")
    changes: dict[str, Any] = {name: attrs.evolve(getattr(settings, name), **{inner: value}) if inner else value}
    return attrs.evolve(settings, **changes)
