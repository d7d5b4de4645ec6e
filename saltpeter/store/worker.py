"""The process that writes the files: there nothing it does takes Python's lock from the daemon's loop.

    python -m saltpeter.store.worker LANE...

Each LANE is the descriptor of a socket by which the daemon sends what is to be written there (a `Kind`), and then one
piece of it after the other, pickled; it is told what became of each. The process ends when the daemon has closed its
lanes, or has died. It is started deaf to what stops daemons: that may be sent to both, and the daemon's last words are
still to be written.
"""

from __future__ import annotations

import pickle
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, BinaryIO, Protocol

from saltpeter.store import forgetting, lives, rules, scribe, streams, textfiles

SIZE = struct.Struct("!Q")  # before each answer: how many bytes it has
# loaded at the start: later another version may be installed there
LOADED = (forgetting, lives, rules, scribe, streams, textfiles)

TURN_S = 0.001  # how long a thread keeps Python's lock while another wants it: who waits may have a commit to confirm


class Hand(Protocol):
    """Writes; one thread uses it."""

    def write(self, piece: Any) -> object:
        """What the daemon is told of it."""


class Kind(Protocol):
    """What can be written: a `scribe.Family` of databases, the `textfiles.TextFiles`."""

    def opened(self) -> AbstractContextManager[Hand]: ...


def serve(lane: socket.socket) -> None:
    """Write what comes, until nothing more does."""
    with lane, lane.makefile("rb") as incoming:
        kind: Kind | None = _next(incoming)
        if kind is None:
            return
        # once the daemon has died, nobody wants to know any more
        with kind.opened() as hand, suppress(BrokenPipeError, ConnectionResetError):
            while (piece := _next(incoming)) is not None:
                lane.sendall(_answer(hand, piece))


def _answer(hand: Hand, piece: object) -> bytes:
    try:
        return _packed(hand.write(piece))
    except Exception as bug:  # the daemon's to end with: here nobody would see it
        return _packed(RuntimeError(f"the process that writes the store failed: {bug!r}"))


def _packed(answer: object) -> bytes:
    data = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    return SIZE.pack(len(data)) + data


def _next(incoming: BinaryIO) -> Any:
    """The next message, from the other half of this program; None when there are no more, or the daemon died in the
    middle of one.
    """
    try:
        return pickle.load(incoming)  # noqa: S301  nobody else has the other end
    except (EOFError, pickle.UnpicklingError):  # the latter for one that is cut off
        return None


def main(lanes: Sequence[int]) -> None:
    sys.setswitchinterval(TURN_S)
    threads = [threading.Thread(target=serve, args=[socket.socket(fileno=lane)], name=f"lane {lane}") for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main([int(lane) for lane in sys.argv[1:]])
