"""What a wrapper has said, and is told; what its output is worth: new, seen before, or out of order. No IO.

A wrapper says at which byte each piece of output stands, and after any crash our durable length is the
truth. A wrapper of 0.9.x numbers its messages only, so for it the numbers are what is followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypeAlias, Union

import attrs
import orjson

from saltpeter import jsontext
from sp_wrapper import frames, wire


def read(text: str | bytes) -> frames.Frame:
    """What a wrapper has sent. Raises RemoteProtocolError and nothing else."""
    return frames.decode_from_wrapper(text, orjson.loads)


def written(about: wire.About, message: wire.FromDaemon, at: datetime) -> str:
    """What a wrapper is told. `at` is aware."""
    return frames.encode(about, message, at, lambda fields: jsontext.dump(fields).decode())


@attrs.define
class Pace:
    """How fast a peer may make us work: `burst` at once, `per_s` from then on. Times are seconds of one clock."""

    per_s: float
    burst: float
    _spent: float = attrs.field(default=0.0, init=False)  # as of `_at`
    _at: float = attrs.field(default=0.0, init=False)

    def spend(self, cost: float, now: float) -> float:
        """How many seconds to wait after work of that cost."""
        self._spent = max(0.0, self._spent - (now - self._at) * self.per_s) + cost
        self._at = now
        return max(0.0, self._spent - self.burst) / self.per_s


@attrs.frozen
class Repeat:
    """Output that is held already, or on its way: to be acked when its turn comes."""

    seq: int


@attrs.define
class Intake:
    """What has been accepted over one connection: bytes up to `length`, messages up to before `next_seq`.

    `next_seq` is None until a message says where its numbers stand.
    """

    length: int
    next_seq: int | None = None

    def judge(self, output: wire.Output) -> wire.Output | Repeat | wire.Nack:
        """Accept `output`, placed where it belongs, or say why not."""
        verdict = self._judge_numbered(output) if output.offset is None else self._judge_placed(output, output.offset)
        if isinstance(verdict, wire.Output) and verdict.offset is not None:
            self.length = verdict.offset + len(verdict.data)
            self.next_seq = output.seq + 1
        return verdict

    def _judge_placed(self, output: wire.Output, offset: int) -> wire.Output | Repeat | wire.Nack:
        if offset + len(output.data) <= self.length and not (offset == self.length and not output.data):
            return Repeat(output.seq)
        gap = offset - self.length
        if gap > output.cut:
            return wire.Nack(expected_seq=self.next_seq or 0, received_seq=output.seq)
        # what was dropped on the machine may have come through before: only what is missing counts as cut
        return attrs.evolve(output, cut=max(gap, 0))

    def _judge_numbered(self, output: wire.Output) -> wire.Output | Repeat | wire.Nack:
        if self.next_seq is not None and output.seq < self.next_seq:
            return Repeat(output.seq)
        if self.next_seq is not None and output.seq > self.next_seq:
            return wire.Nack(expected_seq=self.next_seq, received_seq=output.seq)
        return attrs.evolve(output, offset=self.length, cut=0)


_Word: TypeAlias = Union[Repeat, wire.Start, wire.SyncRequest, wire.Complete, wire.Killed, wire.Log, wire.Failure]
Accepted: TypeAlias = Union[wire.Output, _Word]
Merged: TypeAlias = Union[tuple[wire.Output, ...], _Word]  # of output, each begins where the one before ends


def merged(messages: Iterable[Accepted]) -> Iterator[Merged]:
    """The same messages, but adjoining output put together.

    One commit, and one ack, for what arrived while the one before was being written.
    """
    stretch: list[wire.Output] = []
    for message in messages:
        if stretch and not (isinstance(message, wire.Output) and _adjoins(stretch[-1], message)):
            yield tuple(stretch)
            stretch = []
        if isinstance(message, wire.Output):
            stretch.append(message)
        else:
            yield message
    if stretch:
        yield tuple(stretch)


def _adjoins(first: wire.Output, second: wire.Output) -> bool:
    return (
        first.stream == second.stream
        and not second.cut
        and first.offset is not None
        and second.offset == first.offset + len(first.data)
    )
