"""What docs/control-protocol.md says is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from saltpeter.endpoints.control import ControlEndpoint
from saltpeter.endpoints.control_wire import decode
from saltpeter.endpoints.verbs import VERBS
from tests.endpoints.rig import now
from tests.endpoints.scene import Scene
from tests.endpoints.test_metrics import metrics_of

TEXT = (Path(__file__).parents[2] / "docs" / "control-protocol.md").read_text()
REQUESTS = TEXT[TEXT.index("## Requests") : TEXT.index("### Answers")]


def test_every_request_that_is_shown_can_be_sent() -> None:
    shown = [json.loads(each) for each in re.findall(r"`(\{\"[^`]*\})`", REQUESTS)]
    for request in shown:
        decode(json.dumps(request))
    assert {verb for request in shown for verb in request} == VERBS.keys()


def test_every_resource_is_listed() -> None:
    told = {(method, path) for method, path in re.findall(r"`(GET|POST) (/[a-z]*)", TEXT)}
    scene = Scene()
    routes = ControlEndpoint(scene.board, scene.shelf, scene, "1.0", now, scene.gate).routes()
    there = {each for each in routes if not each[1].startswith("/web/") and each[1] != "/"}
    assert told == there


async def test_every_figure_is_there_and_told() -> None:
    metrics = metrics_of(Scene().board)
    metrics.version("1.0")
    for name in ("saltpeter_wrappers_connected", "saltpeter_clients_connected"):
        metrics.gauge(name, "as the daemon adds them", lambda: 0)
    families = text_string_to_metric_families((await metrics.scrape()).decode())
    there = {f"{each.name}_total" if each.type == "counter" else each.name for each in families}
    told = set(re.findall(r"`(saltpeter_[a-z0-9_]+)", TEXT[TEXT.index("### Figures") : TEXT.index("## Requests")]))
    assert told == {name for name in there if name.startswith("saltpeter_")}
