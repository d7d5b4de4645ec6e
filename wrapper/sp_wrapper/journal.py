"""The wrapper's own log file: one for all runs on the machine, bounded, and never a reason to fail."""

from __future__ import annotations

import contextlib
import os
import stat
import time

from sp_wrapper.order import Order

FILE_NAME = "sp_wrapper.log"
MAX_SIZE = 5 * 1024 * 1024  # bytes; one older file of that size is kept


class Journal:
    def __init__(self, order: Order) -> None:
        """Write to SP_WRAPPER_LOGDIR, or nowhere when it is not given or the level is off."""
        self.debugging = order.loglevel == "debug"
        self._path = f"{order.logdir}/{FILE_NAME}" if order.logdir and order.loglevel != "off" else ""
        self._about = f"{order.instance}:{order.machine}"

    def debug(self, text: str) -> None:
        if self.debugging:
            self.note(text)

    def note(self, text: str) -> None:
        if self._path:
            with contextlib.suppress(OSError):
                self._append(text)

    def note_exception(self) -> None:
        """Write down the exception that is being handled."""
        import traceback  # noqa: PLC0415 - rarely needed, and would delay every command

        self.note(traceback.format_exc())

    def _append(self, text: str) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{at} [{os.getpid()}] {self._about} {text.rstrip()}\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
                return  # somebody else's, who would have it lie elsewhere, or read it
            os.write(fd, line.encode(errors="replace"))
            if os.fstat(fd).st_size > MAX_SIZE:
                os.replace(self._path, self._path + ".1")
        finally:
            os.close(fd)
