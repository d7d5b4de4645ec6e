"""Values as JSON text and back, for both ends of the control socket and of HTTP. No IO."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import orjson


def dump(value: object) -> bytes:
    """The text, in UTF-8. Instants are written by ISO 8601; what else JSON has no word for becomes its own text."""
    try:
        return orjson.dumps(value, default=_text)
    except orjson.JSONEncodeError:  # a number of more than 64 bits, half of a surrogate pair, a key that is no text
        return json.dumps(value, default=_text, separators=(",", ":")).encode()


def load(text: str | bytes) -> Any:
    """The value. Raises ValueError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # half of a surrogate pair
        return json.loads(text)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
