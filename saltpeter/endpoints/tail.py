"""The output of subscribed jobs, as text for one client, from wherever the store's pieces were cut. No IO.

Positions count UTF-16 code units of the text that was sent, for that is how a browser counts.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import attrs

from saltpeter.domain.state import ExecutionId, ExecutionState, RunState
from saltpeter.engine.storage import Piece

PIECES = 8  # read from the store at once
CHUNK = 256 * 1024  # characters of one message


class Outputs(Protocol):
    """The part of the store that output comes from."""

    async def pieces(self, execution: ExecutionId, first: int, limit: int = 256) -> Sequence[Piece]:
        """Output pieces from index `first` on, oldest first, at most `limit`."""


def utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="replace")


@attrs.define(eq=False)
class Tail:
    """One machine's output in one run: what has been sent of it. A retry's output follows its predecessor's."""

    job: str
    execution: ExecutionId
    next_index: int = 0
    _position: int = attrs.field(default=0, init=False)
    _seen: tuple[object, ...] | None = attrs.field(default=None, init=False)
    _completed: bool = attrs.field(default=False, init=False)
    _decode: codecs.IncrementalDecoder = attrs.field(factory=_decoder, init=False)

    def turn_to(self, execution: ExecutionId) -> None:
        if execution != self.execution:
            self.execution, self.next_index, self._decode = execution, 0, _decoder()
            self._seen, self._completed = None, False

    def is_behind(self, mark: tuple[object, ...]) -> bool:
        return self._seen != mark

    def advance(self, pieces: Sequence[Piece], mark: tuple[object, ...], *, ended: bool) -> list[dict[str, Any]]:
        """The messages for `pieces`, which were read after `mark` was made; fewer than PIECES are the last ones."""
        text = "".join(self._texts(pieces))
        if pieces:
            self.next_index = pieces[-1].index + 1
        if len(pieces) < PIECES:
            self._seen = mark
        is_complete = ended and len(pieces) < PIECES
        if is_complete:
            text += self._decode.decode(b"", final=True)
        messages = list(self._messages(text, is_complete=is_complete))
        self._completed = is_complete
        return messages

    def _texts(self, pieces: Iterable[Piece]) -> Iterator[str]:
        for piece in pieces:
            # saltpeter's own lines stand between the command's, and perhaps inside a character of them
            yield piece.data.decode("utf-8", "replace") if piece.system else self._decode.decode(piece.data)

    def _messages(self, text: str, *, is_complete: bool) -> Iterator[dict[str, Any]]:
        parts = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
        if is_complete and not parts and not self._completed:
            parts = [""]
        total = self._position + utf16_length(text)
        for number, part in enumerate(parts, 1):
            yield {
                "type": "output_chunk",
                "cron": self.job,
                "machine": self.execution.machine,
                "chunk": part,
                "position": self._position,
                "total_length": total,
                "is_complete": is_complete and number == len(parts),
                "instance": self.execution.run,
            }
            self._position += utf16_length(part)


def mark_of(run: RunState, execution: ExecutionState) -> tuple[object, ...]:
    """What changes whenever there may be more output to read."""
    return (
        execution.output_length,
        execution.ended_at is not None,
        execution.late is not None,
        run.ended_at is not None,
    )


@attrs.frozen
class Behind:
    """A tail that the store has more for, with the mark under which it was found so."""

    tail: Tail
    mark: tuple[object, ...]
    ended: bool


@attrs.define(eq=False)
class Tails:
    """The tails of the newest run of each subscribed job."""

    _run: dict[str, str] = attrs.field(factory=dict, init=False)
    _tails: dict[str, dict[str, Tail]] = attrs.field(factory=dict, init=False)

    def forget(self, job: str) -> None:
        """Send the job's output from its beginning, if it is asked for again."""
        self._run.pop(job, None)
        self._tails.pop(job, None)

    def behind(self, job: str, run: RunState) -> Iterator[Behind]:
        """The tails of `run` that have more to read. A new run starts anew."""
        if self._run.get(job) != run.id:
            self._run[job], self._tails[job] = run.id, {}
        tails = self._tails[job]
        for machine, execution in run.executions.items():
            tail = tails.setdefault(machine, Tail(job, execution.id))
            tail.turn_to(execution.id)
            if tail.is_behind(mark := mark_of(run, execution)):
                yield Behind(tail, mark, execution.ended_at is not None)
