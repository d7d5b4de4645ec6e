"""The wrapper as the tests of its faults start it: with short times, and failing once where TEST_FAIL says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "wrapper"))

from sp_wrapper import account, conversation, ending, link, main, outbox, reporter, spool

TIMING = link.Timing(connect_s=2, send_s=2, ack_s=1.5, pong_s=2, first_delay_s=0.02, max_delay_s=0.2, sound_s=1)

PLACES: dict[str, Any] = {
    "account.end": account.Account,
    "account.next_output": account.Account,
    "conversation._send_complete": conversation.Conversation,
    "conversation._handle_kill": conversation.Conversation,
    "conversation._handle_ack": conversation.Conversation,
    "conversation._handle_secrets": conversation.Conversation,
    "ending.read_result": ending,
    "link.send": link.Link,
    "outbox.ack": outbox.Outbox,
    "reporter.end": reporter.Reporter,
    "spool.read": spool.SpoolReader,
}


def fail_once(place: str, marker: Path) -> None:
    """Let the function at `place` raise, at its first call after `marker` was made, and remove the marker."""
    name = place.partition(".")[2]
    right = getattr(PLACES[place], name)

    def wrong(*args: Any, **kwargs: Any) -> Any:
        if marker.exists():
            marker.unlink()
            raise RuntimeError(f"a fault at {place}")
        return right(*args, **kwargs)

    setattr(PLACES[place], name, wrong)


reporter.report.__defaults__ = (TIMING,)
reporter.report_leftover.__defaults__ = (TIMING,)
if os.environ.get("TEST_FAIL"):
    fail_once(os.environ["TEST_FAIL"], Path(os.environ["TEST_MARKER"]))

if __name__ == "__main__":
    sys.exit(main.main(sys.argv[1:]))
