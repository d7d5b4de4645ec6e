"""The server's half of a WebSocket once the handshake is over: bytes to messages, and back. No IO."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TypeAlias, Union

import attrs
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol, Side

# The protocol would log each frame of a daemon that logs for debugging, tokens and all.
_silent = logging.getLogger(f"{__name__}.protocol")
_silent.setLevel(logging.WARNING)


@attrs.frozen
class Owed:
    """Bytes that the peer is to be sent soon: the answer to its ping."""

    data: bytes


Heard: TypeAlias = Union[str, bytes, Owed]

_OF_MESSAGES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


@attrs.define(eq=False)
class Frames:
    """`limit` is that of a message, in bytes. `ended`: the peer says nothing more."""

    limit: int
    ended: bool = attrs.field(default=False, init=False)
    _ws: Protocol = attrs.field(init=False)
    _parts: list[bytes] = attrs.field(factory=list, init=False)  # of a message that is not complete yet
    _is_text: bool = attrs.field(default=True, init=False)  # that message
    _last_word: bytes | None = attrs.field(default=None, init=False)  # with which our side ends, once that is certain

    def __attrs_post_init__(self) -> None:
        self._ws = Protocol(Side.SERVER, max_size=self.limit, logger=_silent)

    @property
    def closed(self) -> bool:
        """Both sides have said farewell."""
        return self._ws.close_rcvd is not None and self._last_word == b""

    def feed(self, data: bytes | bytearray) -> Iterator[Heard]:
        """What `data` completes. Nothing more may be fed once it has `ended`."""
        self._ws.receive_data(data)
        answers = iter(self._ws.data_to_send())  # to each ping, and then perhaps to a farewell
        try:
            for event in self._ws.events_received():
                if not isinstance(event, Frame):
                    continue
                if event.opcode is Opcode.PING:
                    yield Owed(next(answers))
                elif event.opcode in _OF_MESSAGES:
                    yield from self._gather(event)
        except UnicodeDecodeError as exc:
            self._ws.fail(CloseCode.INVALID_DATA, exc.reason)
        if self._ws.eof_sent:
            self.ended = True
            last_word = b"".join((*answers, *self._ws.data_to_send()))
            self._last_word = last_word if self._last_word is None else b""

    def _gather(self, frame: Frame) -> Iterator[str | bytes]:
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        if frame.data or not self._parts:  # else pieces of nothing would pile up without end
            self._parts.append(bytes(frame.data))
        if frame.fin:
            whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts = []
            yield whole.decode() if self._is_text else whole

    def text(self, text: str) -> bytes:
        return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)

    def farewell(self, code: int, reason: str) -> bytes:
        """What closes it from our side; nothing if that has been said. What ended it counts for more than `code`."""
        if self._last_word is None:
            self._ws.send_close(code, reason)
            self._last_word = b"".join(self._ws.data_to_send())
        word, self._last_word = self._last_word, b""
        return word
