"""The daemon's own log: a line of text or a JSON object for each event, on stderr.

An event has a text that operators know, and fields beside it for machines:
`log.info("Firing %s!", run, extra=fields("run.started", run=run))`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal, TextIO

OWN = ("saltpeter", "sp_wrapper")  # the loggers whose events are for operators even when all is well

log = logging.getLogger(__name__)

# A record before its event is known; all but the first line is for handlers of others that ask for it all the same.
_BLANK: dict[str, object] = {
    **dict.fromkeys(("name", "levelno", "levelname", "msg", "args", "exc_info", "stack_info", "created", "msecs")),
    **dict.fromkeys(("pathname", "filename", "module", "funcName"), ""),
    **dict.fromkeys(("thread", "threadName", "process", "processName", "taskName", "exc_text")),
    **dict.fromkeys(("lineno", "relativeCreated"), 0),
}

# What could start a line, move a terminal's cursor or turn the reading direction; and halves of
# surrogate pairs, which no stream can encode.
_TURNING = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNPRINTABLE = re.compile(f"[\x00-\x1f{_TURNING}]")
_UNPRINTABLE_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f{_TURNING}]")


def fields(event: str, /, **facts: object) -> dict[str, object]:
    """What to pass as `extra`: the event's name (`thing.past`) and its facts.

    A fact must not be called time, level, logger, event, text or exception: the JSON object has those already.
    """
    # one level down, because a record refuses extras that are called as one of its own attributes
    return {"event": event, "facts": facts}


def escape(text: str) -> str:
    """`text` with everything escaped that could forge a line or command a terminal."""
    if text.isprintable():  # most are, and that is seen at once
        return text
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escape_lines(text: str) -> str:
    """The same for a text of lines, which may have tabs."""
    return _UNPRINTABLE_IN_LINES.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def configure(*, debug: bool = False, format: Literal["text", "json"] = "text", stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (stderr unless given) and to nowhere else.

    Without `debug`, saltpeter speaks from INFO and everybody else from WARNING on. May be called again at
    any time, and must be after Salt has been imported, for that import takes logging over.
    """
    handler = make_handler(debug=debug, format=format, stream=stream or sys.stderr)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        # Salt's import leaves a handler that hoards records and would print them at exit
        if hand_over := getattr(old, "sync_with_handlers", None):
            hand_over([handler])
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.WARNING)
    for name in OWN:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    _undo_salts_changes()
    logging._srcfile = None  # documented: else each event looks for who made it


def _undo_salts_changes() -> None:
    """Salt's loggers drop `extra`, its records fail where a text does not fit its arguments, and its hook
    for unhandled errors prints each one twice."""
    logging.setLogRecordFactory(_Record)
    sys.excepthook = _log_unhandled
    manager = logging.getLogger().manager
    manager.setLoggerClass(_LoggerKind)
    for logger in manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and _is_own(logger.name):
            logger.__class__ = logging.Logger


class _Record(logging.LogRecord):
    """An event without what nobody shows: where in the code it was made, in which thread and process. To look that up
    takes as long as the rest of it."""

    def __init__(  # noqa: PLR0917  what a factory of records is given
        self,
        name: str,
        level: int,
        pathname: str,
        lineno: int,
        msg: object,
        args: tuple[object, ...],
        exc_info: Any,
        func: str | None = None,
        sinfo: str | None = None,
    ) -> None:
        self.__dict__ = _BLANK.copy()  # quicker than to let it grow
        self.name = name
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = msg
        self.args = args
        # a text with one mapping asks for its values by name; a str is none, and that is seen at once
        if len(args) == 1 and not isinstance(args[0], str) and isinstance(args[0], Mapping) and args[0]:
            self.args = args[0]
        self.exc_info = exc_info
        self.stack_info = sinfo
        self.created = time.time()
        self.msecs = self.created % 1 * 1000


class _LoggerKind(logging.Logger):
    """Makes new loggers: the standard kind for saltpeter, whatever Salt has put in force for everybody else."""

    def __new__(cls, name: str, level: int = logging.NOTSET) -> logging.Logger:  # type: ignore[misc]  # a factory
        return (logging.Logger if _is_own(name) else logging.getLoggerClass())(name, level)


def make_handler(*, debug: bool, format: Literal["text", "json"], stream: TextIO) -> logging.Handler:
    """A handler that keeps its rules whatever becomes of the loggers' levels (a late import of Salt resets them)."""
    handler = _Lines(stream)
    handler.setLevel(logging.DEBUG if debug else logging.INFO)
    if not debug:
        handler.addFilter(_concerns_operators)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    return handler


class _Lines(logging.Handler):
    """Writes events to a stream; each is out when the call returns, for the daemon may die next."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


class TextFormatter(logging.Formatter):
    """`<ISO time> <level> <text>`; a traceback follows on indented lines, so that none passes for an event."""

    def format(self, record: logging.LogRecord) -> str:
        origin = "" if _is_own(record.name) else f"{record.name}: "
        line = f"{_time(record)} {record.levelname} {escape(origin + _text(record))}"
        if exception := _exception(record):
            return "\n".join([line, *(f"    {escape(each)}" for each in exception.splitlines())])
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, text, the event's own facts, and exception if any."""

    def format(self, record: logging.LogRecord) -> str:
        facts = dict(getattr(record, "facts", {}))
        own: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", ""),
            "text": _text(record),
        }
        if exception := _exception(record):
            own["exception"] = exception
        return json.dumps({**own, **facts, **own}, default=str)  # in this order, and ours win


@lru_cache(maxsize=1024)
def _is_own(logger_name: str) -> bool:
    return logger_name.partition(".")[0] in OWN


def _concerns_operators(record: logging.LogRecord) -> bool:
    return _is_own(record.name) or record.levelno >= logging.WARNING


def _time(record: logging.LogRecord) -> str:
    text, offset = _second(int(record.created))
    return f"{text}.{int(record.msecs):03}{offset}"


@lru_cache(maxsize=1)
def _second(seconds: int) -> tuple[str, str]:
    """The local time so many seconds after 1970, and its offset; looked up once for the many events of a second."""
    text = datetime.fromtimestamp(seconds).astimezone().isoformat()
    return text[:19], text[19:]


def _text(record: logging.LogRecord) -> str:
    """The message; one that does not fit its arguments is shown as it stands, never dropped."""
    try:
        return record.getMessage()
    except Exception:  # whatever an argument's own __str__ raises
        return f"{record.msg} {record.args!r}"


def _exception(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(logging.Formatter().formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _log_unhandled(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, where)
        return
    log.critical("Stopped by an unhandled error", exc_info=(kind, error, where), extra=fields("daemon.crashed"))
