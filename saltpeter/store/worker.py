"""The process that writes the files: there nothing it does takes Python's lock from the daemon's loop.

    python -m saltpeter.store.worker LANE...

Each LANE is the descriptor of a socket by which the daemon sends a `Family`, and then one `Group` after the other,
pickled; it is told what became of each. The process ends when the daemon has closed its lanes, or has died. It is
started deaf to what stops daemons: that may be sent to both, and the daemon's last words are still to be written.
"""

from __future__ import annotations

import pickle
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from typing import BinaryIO

from saltpeter.store import forgetting, lives, rules, streams
from saltpeter.store.scribe import Family, Group, Scribe

SIZE = struct.Struct("!Q")  # before each answer: how many bytes it has
TASKS = (forgetting, lives, rules, streams)  # loaded at the start: later another version may be installed there


def serve(lane: socket.socket) -> None:
    """Write what comes, until nothing more does."""
    with lane, lane.makefile("rb") as incoming:
        family = _next(incoming)
        if not isinstance(family, Family):
            return
        scribe = Scribe(family)
        copying = threading.Thread(target=scribe.checkpoints.run, name="copy journals")
        copying.start()
        try:
            while isinstance(group := _next(incoming), Group):
                lane.sendall(_answer(scribe, group))
        except (BrokenPipeError, ConnectionResetError):  # the daemon has died: nobody wants to know any more
            pass
        finally:
            scribe.checkpoints.close()
            copying.join()
            scribe.close()


def _answer(scribe: Scribe, group: Group) -> bytes:
    try:
        return _packed(scribe.write(group))
    except Exception as bug:  # the daemon's to end with: here nobody would see it
        return _packed(RuntimeError(f"the process that writes the store failed: {bug!r}"))


def _packed(answer: object) -> bytes:
    data = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    return SIZE.pack(len(data)) + data


def _next(incoming: BinaryIO) -> object:
    """The next message, from the other half of this program; None when there are no more, or the daemon died in the
    middle of one.
    """
    try:
        return pickle.load(incoming)  # noqa: S301  nobody else has the other end
    except (EOFError, pickle.UnpicklingError):  # the latter for one that is cut off
        return None


def main(lanes: Sequence[int]) -> None:
    threads = [threading.Thread(target=serve, args=[socket.socket(fileno=lane)], name=f"lane {lane}") for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main([int(lane) for lane in sys.argv[1:]])
