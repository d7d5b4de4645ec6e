"""How outcomes stand in the tables."""

from __future__ import annotations

from functools import lru_cache

import cattrs.preconf.json

from saltpeter import jsontext
from saltpeter.domain.outcome import Outcome

_JSON = cattrs.preconf.json.make_converter(omit_if_default=True)


def dump_outcome(outcome: Outcome) -> str:
    return _JSON.dumps(outcome)


@lru_cache(maxsize=1024)  # most machines of a run end alike
def load_outcome(text: str | None) -> Outcome | None:
    return None if text is None else _JSON.structure(jsontext.load(text), Outcome)
