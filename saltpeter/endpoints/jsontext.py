"""Values as JSON text, for clients of the control socket and of HTTP. No IO."""

from __future__ import annotations

import json

import orjson


def dump(value: object) -> bytes:
    """The text, in UTF-8; what JSON has no word for becomes its own text."""
    try:
        return orjson.dumps(value, default=str)
    except orjson.JSONEncodeError:  # a number of more than 64 bits, half of a surrogate pair, a key that is no text
        return json.dumps(value, default=str, separators=(",", ":")).encode()
