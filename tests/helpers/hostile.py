"""A world in which everything that has a name has a bad one: jobs, files, machines, reasons, and what peers say."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

# what a name, and what any text, must never do to whoever shows it; none of it holds a comma, which parts targets
PROPER = {
    "html": "<script>alert(1)</script>",
    "attribute": "\"><img src=x onerror=alert(1)>'",
    "path": "../../../../tmp/pwned",
    "percent": "%2e%2e%2f%00%0d%0a%s%n%(name)s",
    "sql": "x'); DROP TABLE runs;--",
    "shell": "$(touch PWNED)`touch PWNED`; touch PWNED & |<>*?~#",
    "template": "{{ 7*7 }}{% raw %}{# #}${7*7}",
    "options": "--help",
    "prototype": "__proto__",
    "quotes": "\\'\"\\",
    "markup": "[red]x[/red] :smile: **x** _x_",
    "turning": "a\u202egnp.exe\u2066\u200f\u061c",
    "wide": "日本 🧂 e\u0301",
    "long": "n" * 200,
}
EVERYWHERE = [*PROPER.values(), "m" * 300]
CONTROLS = "\x1b]0;pwned\x07\x1b[2J\x9b31m\x85\x0b\x0c\r\n\tforged \x7f\u2028\u2029" + "".join(map(chr, range(1, 32)))
ANY_TEXT = "".join(PROPER.values()) + CONTROLS
ANY_BYTES = bytes(range(256)) + ANY_TEXT.encode() + b"\xff\xfe\xed\xa0\x80\n"

# what must not stand in what people read: all that moves a cursor, turns the direction or is no character
UNSEEMLY = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
COLOURS = re.compile("\x1b\\[[0-9;]*m")
STRANGE_FILE = b"\x1b]0;file\x07\xff\n<img src=x onerror=alert(1)>"  # of conf.d, without .yaml


def job(command: str = "true", **more: Any) -> dict[str, Any]:
    return {"command": command, "schedule": "@yearly", "targets": ["m1"], **more}


def jobs(outputs: Path, **env: str) -> dict[str, dict[str, Any]]:
    """By their names; `outputs` is a file that they print. The first runs everywhere, the others on two machines."""
    told = {"description": ANY_TEXT, "owner": ANY_TEXT, "tags": [ANY_TEXT], "env": {**env, "X": ANY_TEXT}}
    made = {name: job(f"cat {outputs}", targets=[name, PROPER["html"]], **told) for name in PROPER.values()}
    made[PROPER["html"]]["targets"] = EVERYWHERE
    return made


def yaml_of(jobs: Mapping[str, Mapping[str, Any]]) -> str:
    """As PyYAML writes it, with an escape for all that is no plain letter."""
    return yaml.safe_dump({name: dict(each) for name, each in jobs.items()}, allow_unicode=False, sort_keys=False)


# --- machines that lie ---------------------------------------------------------------------------

_SPEAKER = """#!{python}
import json, os, subprocess, sys
BAD = {text!r}

def refuse():
    sys.stdout.buffer.write({data!r})
    sys.exit(3)

async def speak():
    import trio, trio_websocket
    env = os.environ
    about = dict(job_name=env["SP_JOB_NAME"], job_instance=env["SP_JOB_INSTANCE"], machine=env["SP_MACHINE_ID"],
                 timestamp="2026-11-20T12:00:00+00:00")
    process = dict(pid=1, name=BAD, state=BAD)
    receipt = dict(signalled=[process], ended=[], survived=[process])
    words = [
        dict(type="connect", token=env["SP_TOKEN"], secret=BAD, version=BAD, sent=0),
        dict(type="start", pid=1, version=BAD, started="2026-11-20T12:00:00+00:00"),
        dict(type="heartbeat", rss=1, cpu=1),
        dict(type="log", level=BAD, text=BAD),
        dict(type="error", error=BAD),
        dict(type="output", seq=0, offset=0, data=BAD, stream=BAD),
        dict(type="killed", receipt=receipt),
        dict(type="complete", retcode=7, outcome="error", error=BAD, receipt=receipt, length=len(BAD.encode())),
    ]
    async with trio_websocket.open_websocket_url(env["SP_WEBSOCKET_URL"]) as ws:
        for word in words:
            await ws.send_message(json.dumps({{**about, **word}}))
        with trio.move_on_after(20):
            while json.loads(await ws.get_message()).get("ack_type") != "complete":
                pass

if any(each.startswith("--") for each in sys.argv[1:]):
    refuse()
elif "speak" in sys.argv:
    import trio
    trio.run(speak)
elif os.environ.get("REFUSE"):
    refuse()
else:
    null = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.Popen([sys.executable, __file__, "speak"], start_new_session=True, **null)
    sys.stdout.buffer.write({data!r})
"""


def lying_wrapper(path: Path) -> Path:
    """A program in the wrapper's place that says nothing but bad words, to Salt and to the daemon."""
    path.write_text(_SPEAKER.format(python=sys.executable, text=ANY_TEXT, data=ANY_BYTES))
    path.chmod(0o755)
    return path


# --- what is shown -------------------------------------------------------------------------------


def unseemly(shown: str, *, colours: bool = False) -> list[str]:
    """What of it could command a terminal or mislead its reader."""
    return UNSEEMLY.findall(COLOURS.sub("", shown) if colours else shown)
