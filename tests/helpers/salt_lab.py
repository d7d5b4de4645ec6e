"""One real Salt master with three minions for all tests of a session, within reach of every test's own loop."""

from __future__ import annotations

import importlib
import logging
import queue
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs
import pytest
import trio

from saltpeter.lab import Lab, lab


@attrs.frozen
class LabHandle:
    """The lab lives in a thread with a loop of its own; `call` runs one of its methods there."""

    lab: Lab
    _token: trio.lowlevel.TrioToken

    async def call(self, method: Callable[..., Awaitable[None]], *args: Any) -> None:
        """`await handle.call(handle.lab.stop_minion, "m1")`"""
        await trio.to_thread.run_sync(lambda: trio.from_thread.run(method, *args, trio_token=self._token))


@pytest.fixture(scope="session")
def salt_lab() -> Iterator[LabHandle]:
    _import_salt()
    made: queue.Queue[LabHandle | BaseException] = queue.Queue()
    over: queue.Queue[Callable[[], None]] = queue.Queue()

    async def main() -> None:
        stop = trio.Event()
        token = trio.lowlevel.current_trio_token()
        async with lab() as built:
            over.put(lambda: token.run_sync_soon(stop.set))
            made.put(LabHandle(built, token))
            await stop.wait()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as exc:  # for the thread that waits for the lab
            made.put(exc)

    thread = threading.Thread(target=run, name="lab", daemon=True)
    thread.start()
    handle = made.get(timeout=180)
    if isinstance(handle, BaseException):
        raise handle
    yield handle
    over.get()()
    thread.join(timeout=60)


def _import_salt() -> None:
    """Without most of the marks that this leaves on the process: other tests look at its logging too.

    The class of new loggers stays, for Salt cannot do without its own.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    factory, hook = logging.getLogRecordFactory(), sys.excepthook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Salt's own, which would be errors here
        importlib.import_module("saltpeter.launch.saltmaster")
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.setLogRecordFactory(factory)
    sys.excepthook = hook
