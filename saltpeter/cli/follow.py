"""The output of many machines as it comes, each line behind the name of its machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import attrs
import trio
from rich.console import Console
from rich.text import Text

from saltpeter.cli import screen, words
from saltpeter.cli.common import EXIT_FAILED, EXIT_KILLED, EXIT_NO_TARGETS
from saltpeter.client import Client
from saltpeter.logs import escape

LAST_WORDS_S = 10.0  # for output that is still on its way when a run has ended

_CODES = {"success": 0, "failed": EXIT_FAILED, "no_targets": EXIT_NO_TARGETS, "killed": EXIT_KILLED}


def verdict_code(verdict: str) -> int:
    """The exit code of a command that ends as a run did."""
    return _CODES.get(verdict, EXIT_FAILED)


@attrs.define
class Printer:
    """Prints pieces of output. In a pipe a line is what the command wrote; on a terminal it cannot command it."""

    as_json: bool = False
    _lines: words.Lines = attrs.field(factory=words.Lines, init=False)
    _console: Console = attrs.field(factory=screen.console, init=False)
    _width: int = attrs.field(default=0, init=False)

    def chunk(self, message: Mapping[str, Any]) -> None:
        """One `output_chunk` of the control socket."""
        if self.as_json:
            screen.print_json_line(message)
        else:
            self.piece(message["machine"], message["chunk"], last=message["is_complete"])

    def piece(self, machine: str, text: str, *, last: bool) -> None:
        for line in self._lines.feed(machine, text, last=last):
            self._line(machine, line)

    def heading(self, text: str) -> None:
        """What follows is of another run."""
        if not self.as_json:
            self._console.print(Text(escape(text), "dim"), soft_wrap=True)

    def _line(self, machine: str, line: str) -> None:
        self._width = max(self._width, len(machine))  # grows with the names: nobody knows them all at first
        prefix = f"{escape(machine):<{self._width}} | "
        if not self._console.is_terminal:
            sys.stdout.write(prefix + line + "\n")
            sys.stdout.flush()
            return
        for part in words.overwritten(line):
            shown = Text().append(prefix, words.machine_style(machine)).append_text(words.harmless(part))
            self._console.print(shown, soft_wrap=True)


async def follow(
    client: Client, job: str, run: str, *, machine: str | None = None, as_json: bool = False
) -> dict[str, Any]:
    """Print the output of `run`, from its beginning, until it has ended and all is printed; return it as it ended."""
    printer, pending = Printer(as_json), Pending(run, machine)
    subscription = {"cron": job, "job_instance": run}
    await client.request("subscribe", subscription if machine is None else {**subscription, "machine": machine})
    with trio.CancelScope() as waiting:
        async for message in client:
            if message["type"] == "output_chunk" and message["instance"] == run:
                printer.chunk(message)
            pending.take(message)
            if pending.is_over:
                waiting.deadline = min(waiting.deadline, trio.current_time() + LAST_WORDS_S)
                if not pending.machines:
                    break
    ended: dict[str, Any] = await client.request("getRun", {"job_instance": run})
    return ended


@attrs.define
class Pending:
    """What of a run is still to come. With `machine`, that one's output is all that is waited for. No IO."""

    run: str
    machine: str | None
    is_over: bool = attrs.field(default=False, init=False)
    _taking_part: set[str] = attrs.field(factory=set, init=False)
    _complete: set[str] = attrs.field(factory=set, init=False)

    def take(self, message: Mapping[str, Any]) -> None:
        match message:
            case {"type": "output_chunk", "instance": self.run, "is_complete": True, "machine": machine}:
                self._complete.add(machine)
            case {"type": "run", "job_instance": self.run, "run": about, "results": results}:
                self.is_over = about["verdict"] is not None
                self._taking_part |= results.keys()

    @property
    def machines(self) -> set[str]:
        """Whose output is not complete yet."""
        return (self._taking_part if self.machine is None else {self.machine}) - self._complete
