"""What the daemon tells of everything, put together: a snapshot, and the changes that follow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from saltpeter.client import Client


@attrs.define
class Overview:
    """By name: jobs as conf.d has them, how each went, and the living runs with their machines' states."""

    crons: dict[str, Any] = attrs.field(factory=dict)
    jobs: dict[str, Any] = attrs.field(factory=dict)
    runs: dict[str, Any] = attrs.field(factory=dict)
    settings: dict[str, Any] = attrs.field(factory=dict)
    store_problem: str | None = None  # why no run starts

    def take(self, message: Mapping[str, Any]) -> None:
        """Any message of the daemon; those that are about something else change nothing."""
        if message["type"] == "snapshot":
            self.crons, self.jobs, self.runs = message["crons"], message["jobs"], message["runs"]
            self.settings, self.store_problem = message["saltpeter_config"], message["store_problem"]
        elif message["type"] == "changes":
            self.settings = message.get("saltpeter_config", self.settings)
            self.store_problem = message.get("store_problem", self.store_problem)
            _merge(self.crons, message.get("crons", {}))
            _merge(self.jobs, message.get("jobs", {}))
            runs = message.get("runs", {})
            for run in runs.keys() & self.runs.keys():
                if runs[run] is not None:
                    runs[run]["machines"] = {**self.runs[run]["machines"], **runs[run]["machines"]}
            _merge(self.runs, runs)


def _merge(known: dict[str, Any], changes: Mapping[str, Any]) -> None:
    known |= changes
    for name in [name for name, each in changes.items() if each is None]:
        del known[name]


async def overview(client: Client) -> Overview:
    """Everything as it is now, and the client tells from now on what changes."""
    await client.hello()
    seen = Overview()
    async for message in client:
        seen.take(message)
        if message["type"] == "snapshot":
            break
    return seen
