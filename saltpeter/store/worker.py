"""The process that writes the files: there nothing it does takes Python's lock from the daemon's loop.

    python -m saltpeter.store.worker LOGDIR LANE...

Each LANE is the descriptor of a socket by which the daemon sends a `Family`, and then one `Group` after the other,
pickled; it is told what became of each. What has been written is copied into text logs in LOGDIR; "" for none.

The process ends when the daemon has closed its lanes, or has died. It is started deaf to what stops daemons: that may
be sent to both, and the daemon's last words are still to be written.
"""

from __future__ import annotations

import pickle
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from saltpeter.store import forgetting, lives, rules, streams
from saltpeter.store.scribe import Family, Group, Report, Scribe
from saltpeter.store.streams import Addition, Written, without
from saltpeter.store.textlog import Output, TextLogs

LAST_LINES_S = 2.0  # for what is left of the text logs at the end
SIZE = struct.Struct("!Q")  # before each answer: how many bytes it has
TASKS = (forgetting, lives, rules, streams)  # loaded at the start: later another version may be installed there


def serve(lane: socket.socket, text_logs: TextLogs | None) -> None:
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
                lane.sendall(_answer(scribe, group, text_logs))
        except (BrokenPipeError, ConnectionResetError):  # the daemon has died: nobody wants to know any more
            pass
        finally:
            scribe.checkpoints.close()
            copying.join()
            scribe.close()


def _answer(scribe: Scribe, group: Group, text_logs: TextLogs | None) -> bytes:
    try:
        report = scribe.write(group)
        if text_logs is not None:  # before the answer, so that what follows from it comes later there, too
            _copy(group, report, text_logs)
            report = report._replace(complaints=text_logs.complaints())
        return _packed(report)
    except Exception as bug:  # the daemon's to end with: here nobody would see it
        return _packed(RuntimeError(f"the process that writes the store failed: {bug!r}"))


def _copy(group: Group, report: Report, text_logs: TextLogs) -> None:
    for task, done in zip(group.tasks, report.done, strict=True):
        if done.error is not None:
            continue
        if task.do is rules.record_all:
            text_logs.facts(task.piece)
        elif isinstance(task.piece, Addition) and isinstance(done.result, Written):
            begin = done.result.length - done.result.new
            for portion in without(task.piece.data, task.piece.size - done.result.new):
                text_logs.output(Output(task.piece.stream, begin, portion, group.at))
                begin += len(portion)


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


@contextmanager
def _text_logs(logdir: str) -> Iterator[TextLogs | None]:
    """Leaving writes what is left."""
    if not logdir:
        yield None
        return
    text_logs = TextLogs(Path(logdir))
    thread = threading.Thread(target=text_logs.run, name="text logs", daemon=True)
    thread.start()
    try:
        yield text_logs
    finally:
        text_logs.close()
        thread.join(LAST_LINES_S)


def main(logdir: str, lanes: Sequence[int]) -> None:
    with _text_logs(logdir) as text_logs:
        threads = [
            threading.Thread(target=serve, args=[socket.socket(fileno=lane), text_logs], name=f"lane {lane}")
            for lane in lanes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1], [int(lane) for lane in sys.argv[2:]])
