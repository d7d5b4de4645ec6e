"""The output of subscribed jobs, as text for one client, from wherever the store's pieces were cut. No IO.

Positions count UTF-16 code units of the text that was sent, for that is how a browser counts.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from saltpeter.domain.events import ExecutionId
from saltpeter.domain.state import ExecutionState, RunState
from saltpeter.engine.storage import Piece

PIECES = 8  # read from the store at once
CHUNK = 256 * 1024  # characters of one message


def utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def without_first(text: str, units: int) -> str:
    """`text` without its first `units` UTF-16 code units; a character that would be halved goes as a whole."""
    if text.isascii():
        return text[units:]
    return text.encode("utf-16-le")[2 * units :].decode("utf-16-le", "ignore")


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="replace")


@attrs.frozen
class Mark:
    """What changes whenever there may be more output to read. `attempt` is the machine's latest."""

    attempt: int
    length: int
    ended: bool
    late: bool
    run_ended: bool


def mark_of(run: RunState, execution: ExecutionState) -> Mark:
    return Mark(
        attempt=execution.id.attempt,
        length=execution.output_length,
        ended=execution.ended_at is not None,
        late=execution.late is not None,
        run_ended=run.ended_at is not None,
    )


@attrs.define(eq=False)
class Tail:
    """One machine's output in one run, all attempts one after the other: what has been sent of it.

    `skip` code units are those that the client has already, from an earlier connection.
    """

    job: str
    run: str
    machine: str
    skip: int = 0
    attempt: int = attrs.field(default=1, init=False)
    next_index: int = attrs.field(default=0, init=False)
    _position: int = attrs.field(default=0, init=False)
    _seen: Mark | None = attrs.field(default=None, init=False)
    _completed: bool = attrs.field(default=False, init=False)
    _decode: codecs.IncrementalDecoder = attrs.field(factory=_decoder, init=False)

    @property
    def execution(self) -> ExecutionId:
        """Whose pieces come next."""
        return ExecutionId(self.run, self.machine, self.attempt)

    def is_behind(self, mark: Mark) -> bool:
        return self._seen != mark

    def advance(self, pieces: Sequence[Piece], mark: Mark) -> list[dict[str, Any]]:
        """The messages for `pieces`, which were read after `mark` was made; fewer than PIECES are the last ones."""
        if self._position < self.skip and self._misses_any(pieces):
            self._begin_again()  # the middle was left out since: nobody knows what the client has of it
            return []
        text = "".join(self._texts(pieces))
        if pieces:
            self.next_index = pieces[-1].index + 1
        is_complete = False
        if len(pieces) < PIECES:
            is_complete = mark.ended and self.attempt >= mark.attempt
            text += self._turn(mark)
        if self._position + utf16_length(text) < self.skip and self._seen is not None:
            self._begin_again()  # the client has more than there is: it must be something else
            return []
        messages = list(self._messages(self._fresh(text), is_complete=is_complete))
        self._completed = is_complete
        return messages

    def _turn(self, mark: Mark) -> str:
        """At the end of what there is: go on with the next attempt, or rest. Returns what is left of the text."""
        left = ""
        if self.attempt < mark.attempt or mark.ended:
            left = self._decode.decode(b"", final=True)
        if self.attempt < mark.attempt:
            self.attempt, self.next_index, self._decode = self.attempt + 1, 0, _decoder()
        else:
            self._seen = mark
        return left

    def _begin_again(self) -> None:
        self.skip = self._position = self.next_index = 0
        self.attempt, self._seen, self._decode = 1, None, _decoder()

    def _misses_any(self, pieces: Sequence[Piece]) -> bool:
        return any(piece.index != index for index, piece in enumerate(pieces, self.next_index))

    def _fresh(self, text: str) -> str:
        """What the client lacks of `text`."""
        if self._position >= self.skip:
            return text
        fresh = without_first(text, self.skip - self._position)
        self._position += utf16_length(text) - utf16_length(fresh)
        return fresh

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
                "machine": self.machine,
                "chunk": part,
                "position": self._position,
                "total_length": total,
                "is_complete": is_complete and number == len(parts),
                "instance": self.run,
            }
            self._position += utf16_length(part)


@attrs.frozen
class Behind:
    """A tail that the store has more for, with the mark under which it was found so."""

    tail: Tail
    mark: Mark


@attrs.define
class _Following:
    """The tails of one job's run. `only` names the machines that are wanted; None: all of them."""

    run: str = ""
    only: set[str] | None = None
    tails: dict[str, Tail] = attrs.field(factory=dict)
    settled: int = -1  # the state's serial when all tails had been read to their ends


@attrs.define(eq=False)
class Tails:
    """The tails of one run of each subscribed job."""

    _jobs: dict[str, _Following] = attrs.field(factory=dict, init=False)

    def want(self, job: str, run: str, machine: str | None, position: int) -> None:
        """Follow `run` ("" while there is none), every machine of it or also `machine`, from `position` on."""
        known = job in self._jobs
        following = self._turn_to(job, run)
        following.settled = -1
        if machine is None:
            following.only = None
            return
        if not known:
            following.only = set()
        if following.only is not None:
            following.only.add(machine)
        following.tails[machine] = Tail(job, run, machine, skip=position)

    def want_none(self, job: str) -> None:
        """Follow no machine; those that are followed already go on."""
        self._jobs.setdefault(job, _Following(only=set()))

    def leave(self, job: str, machine: str) -> None:
        """Follow `machine` no longer, where it was asked for by name."""
        following = self._jobs.get(job)
        if following is not None and following.only is not None:
            following.only.discard(machine)
            following.tails.pop(machine, None)

    def forget(self, job: str) -> None:
        """Send the job's output from its beginning, if it is asked for again."""
        self._jobs.pop(job, None)

    def behind(self, job: str, run: RunState, serial: int) -> list[Behind]:
        """The tails of `run` that have more to read, at the job's latest change `serial`. A new run starts anew."""
        following = self._turn_to(job, run.id)
        if following.settled == serial:
            return []
        found = [behind for behind in self._behind(following, job, run) if behind.tail.is_behind(behind.mark)]
        if not found:
            following.settled = serial
        return found

    def _behind(self, following: _Following, job: str, run: RunState) -> Iterator[Behind]:
        for machine, execution in run.executions.items():
            if following.only is None or machine in following.only:
                tail = following.tails.setdefault(machine, Tail(job, run.id, machine))
                yield Behind(tail, mark_of(run, execution))

    def _turn_to(self, job: str, run: str) -> _Following:
        following = self._jobs.setdefault(job, _Following())
        if following.run != run:
            following.run, following.settled = run, -1
            following.tails.clear()
        return following
