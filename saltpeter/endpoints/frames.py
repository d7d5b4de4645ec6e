"""The server's half of a WebSocket once the handshake is over: bytes to messages, and back. No IO."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, Union

import attrs
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

TOO_BIG = 1009  # a close code of RFC 6455
_OPEN = (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING)


@attrs.frozen
class Owed:
    """Bytes that the peer is to be sent soon: the answer to its ping."""

    data: bytes


Heard: TypeAlias = Union[str, bytes, Owed]


def _connection() -> Connection:
    return Connection(ConnectionType.SERVER)


@attrs.define(eq=False)
class Frames:
    """`limit` is that of a message, in characters of text or in bytes. `ended`: the peer says nothing more."""

    limit: int
    ended: bool = attrs.field(default=False, init=False)
    _ws: Connection = attrs.field(factory=_connection, init=False)
    _begun: list[str | bytes] = attrs.field(factory=list, init=False)  # of a message that is not complete yet
    _size: int = attrs.field(default=0, init=False)
    _last_word: CloseConnection | None = attrs.field(default=None, init=False)

    @property
    def closed(self) -> bool:
        """Both sides have said farewell."""
        return self._ws.state is ConnectionState.CLOSED

    def feed(self, data: bytes | bytearray) -> Iterator[Heard]:
        """What `data` completes. Nothing more may be fed once it has `ended`."""
        self._ws.receive_data(bytes(data))
        for event in self._ws.events():
            match event:
                case TextMessage() | BytesMessage():
                    yield from self._gather(event)
                case Ping():
                    yield Owed(self._ws.send(event.response()))
                case CloseConnection():
                    self._end(event)
            if self.ended:
                return

    def _gather(self, event: TextMessage | BytesMessage) -> Iterator[str | bytes]:
        self._size += len(event.data)
        if self._size > self.limit:
            return self._end(CloseConnection(code=TOO_BIG, reason=f"a message may have {self.limit} characters"))
        if event.data or not self._begun:  # else pieces of nothing would pile up without end
            self._begun.append(event.data if isinstance(event.data, str) else bytes(event.data))
        if event.message_finished:
            yield self._begun[0] if len(self._begun) == 1 else _joined(self._begun)
            self._begun, self._size = [], 0

    def _end(self, why: CloseConnection) -> None:
        self.ended, self._last_word = True, why

    def text(self, text: str) -> bytes:
        return self._ws.send(TextMessage(data=text))

    def farewell(self, code: int, reason: str) -> bytes:
        """What closes it from our side; nothing if that has been said. What ended it counts for more than `code`."""
        if self._ws.state not in _OPEN:
            return b""
        return self._ws.send(self._last_word or CloseConnection(code=code, reason=reason or None))


def _joined(parts: list[str | bytes]) -> str | bytes:
    """All of `parts` are of one kind, which each of them says."""
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if texts else b"".join(part for part in parts if isinstance(part, bytes))
