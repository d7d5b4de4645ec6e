"""Where to end a message, so that no character is torn between two."""

from __future__ import annotations


def torn(data: bytes) -> int:
    """How many bytes at the end of `data` begin a UTF-8 character that is not complete; 0 to 3."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            return back if back < _length(byte) else 0
    return 0


def sendable(data: bytes, *, final: bool) -> bytes:
    """The part of `data` to send now. A torn character waits for its rest, unless nothing follows any more."""
    return data if final else data[: len(data) - torn(data)]


def _length(lead: int) -> int:
    """Bytes of the character that begins with `lead`; 1 for what begins none."""
    if 0xC2 <= lead < 0xE0:
        return 2
    if 0xE0 <= lead < 0xF0:
        return 3
    return 4 if 0xF0 <= lead < 0xF5 else 1
