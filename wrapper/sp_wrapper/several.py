"""Several orders in one start of the wrapper: Python and our modules are loaded once for all of them.

They come on stdin as a JSON object, the variables of each under a name of the daemon's. Each is taken as if it had
come alone, and answered with a line of its own, as soon as it is known: what becomes of one is nothing to the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import IO, Any

from sp_wrapper.codes import ERROR

OF_THE_MACHINE = ("SP_MACHINE_ID", "SP_MACHINE_KEY")  # are the launcher's to say, in no order


def main(
    given: IO[bytes], said: IO[str], environ: Mapping[str, str], take: Callable[[Mapping[str, str]], tuple[int, str]]
) -> int:
    """Answers 0 when every order was dealt with, well or not; else nothing at all was."""
    try:
        orders = _read(given.read())
    except ValueError as exc:
        said.write(f"sp_wrapper: these are no orders: {exc}\n")
        return ERROR
    here = {name: environ.get(name, "") for name in OF_THE_MACHINE}
    for name, variables in orders.items():
        code, text = _taken(take, {**environ, **variables, **here})
        said.write(json.dumps({"order": name, "code": code, "text": text}) + "\n")
        said.flush()
    return 0


def _read(data: bytes) -> dict[str, dict[str, str]]:
    """Raises ValueError."""
    orders: Any = json.loads(data)
    if not isinstance(orders, dict) or not all(_is_order(each) for each in orders.values()):
        raise ValueError("not an object of objects of texts")
    return orders


def _is_order(each: object) -> bool:
    return isinstance(each, dict) and all(isinstance(value, str) for value in each.values())


def _taken(take: Callable[[Mapping[str, str]], tuple[int, str]], environ: Mapping[str, str]) -> tuple[int, str]:
    try:
        return take(environ)
    except Exception as exc:  # a bug about one order must not cost the others theirs
        return ERROR, f"the wrapper failed: {exc!r}"
