"""Commands that need no daemon: next, check, import-crontab, completion, help."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import pytest
from click.testing import CliRunner, Result

from saltpeter import cli
from saltpeter.cli import SECTIONS, load, main
from saltpeter.cli.upcoming import clock_change

CONF_D = """
early: {schedule: '30 2 * * *', timezone: Europe/Berlin, targets: '*', command: 'true'}
noon: {schedule: '0 12 * * *', timezone: UTC, targets: '*', command: 'true'}
off: {schedule: '* * * * *', timezone: UTC, targets: '*', command: 'true', enabled: false}
"""


@pytest.fixture
def conf_d(tmp_path: Path) -> Path:
    (tmp_path / "jobs.yaml").write_text(CONF_D)
    return tmp_path


def saltpeter(*arguments: str, typed: str | None = None, terminal: bool = False, code: int = 0) -> Result:
    env = {"TZ": "UTC", "COLUMNS": "140", "FORCE_COLOR": "1" if terminal else ""}
    done = CliRunner().invoke(main, arguments, prog_name="saltpeter", env=env, input=typed)
    assert done.exit_code == code, f"{done.output}\n{done.exc_info}"
    return done


# --- next ----------------------------------------------------------------------------------------


def test_next_lists_the_slots_of_all_jobs_that_are_enabled(conf_d: Path) -> None:
    out = saltpeter("next", "-c", str(conf_d), "--from", "2026-11-20", "--to", "2026-11-22").stdout
    assert out.splitlines() == [
        "2026-11-20T02:30:00+01:00\tCET\tearly\t",
        "2026-11-20T12:00:00+00:00\tUTC\tnoon\t",
        "2026-11-21T02:30:00+01:00\tCET\tearly\t",
        "2026-11-21T12:00:00+00:00\tUTC\tnoon\t",
    ]


def test_next_shows_what_the_clocks_do(conf_d: Path) -> None:
    spring = saltpeter(
        "next", "early", "-c", str(conf_d), "-n", "2", "--from", "2027-03-27 12:00", terminal=True
    ).stdout
    assert "clocks go forward: 02:00 to 03:00 does not exist that day" in spring
    autumn = saltpeter("next", "early", "-c", str(conf_d), "-n", "1", "--from", "2026-10-24 12:00", "--json").stdout
    assert json.loads(autumn) == [
        {
            "cron": "early",
            "slot": "2026-10-25T00:30:00+00:00",
            "local": "2026-10-25T02:30:00+02:00",
            "zone": "Europe/Berlin",
            "note": "clocks show 02:30 twice that day; this is the first time",
        }
    ]


def test_next_in_another_zone(conf_d: Path) -> None:
    out = saltpeter(
        "next", "early", "-c", str(conf_d), "-n", "1", "--zone", "Asia/Tokyo", "--from", "2026-11-20"
    ).stdout
    assert out == "2026-11-20T10:30:00+09:00\tJST\tearly\t\n"
    assert "is not a time zone; did you mean Asia/Tokyo?" in saltpeter("next", "--zone", "Asia/Tokio", code=2).stderr


def test_next_of_what_is_not_there(conf_d: Path) -> None:
    said = saltpeter("next", "erly", "-c", str(conf_d), code=1).stderr
    assert said == f"saltpeter: there is no job 'erly' in {conf_d}; did you mean early?\n"
    span = ("--from", "2026-11-20 13:00", "--to", "2026-11-20 14:00")
    assert "noon is not due in that time" in saltpeter("next", "noon", "-c", str(conf_d), *span, terminal=True).stdout


def berlin_around(*day: int) -> Iterator[tuple[datetime, str]]:
    begin = datetime(*day, tzinfo=timezone.utc)  # type: ignore[misc,arg-type]
    for minutes in range(0, 240, 30):
        at = begin + timedelta(minutes=minutes)
        yield at, clock_change(ZoneInfo("Europe/Berlin"), at)


def test_what_the_clocks_do_is_said_of_the_instants_that_it_concerns() -> None:
    said = {f"{at:%H:%M}": text for at, text in berlin_around(2026, 10, 25) if text}
    assert said == {
        "00:00": "clocks show 02:00 twice that day; this is the first time",
        "00:30": "clocks show 02:30 twice that day; this is the first time",
        "01:00": "clocks go back, to 02:00",
        "01:30": "clocks show 02:30 twice that day; this is the second time",
    }
    assert [f"{at:%H:%M}" for at, text in berlin_around(2027, 3, 28) if text] == ["01:00"]
    assert not any(text for _, text in berlin_around(2026, 6, 1))


# --- check, import-crontab -----------------------------------------------------------------------


def test_check(conf_d: Path) -> None:
    assert saltpeter("check", str(conf_d)).stdout == "3 jobs in force, 0 errors, 0 warnings\n"
    (conf_d / "bad.yaml").write_text("bad: {schedule: '* * *', targets: '*', command: 'x'}\n")
    said = saltpeter("check", str(conf_d), code=1).stdout
    assert said.startswith(f"{conf_d}/bad.yaml:1: bad.schedule: ")
    assert said.endswith("3 jobs in force, 1 error, 0 warnings\n")
    found = json.loads(saltpeter("check", str(conf_d), "--json", code=1).stdout)
    assert (found["jobs"], [problem["job"] for problem in found["problems"]]) == (["early", "noon", "off"], ["bad"])
    assert "\x1b[1;31m" in saltpeter("check", str(conf_d), terminal=True, code=1).stdout


def test_an_imported_crontab_passes_the_check(tmp_path: Path) -> None:
    crontab = "MAILTO=me\n# Every night\n30 3 * * * /opt/backup.sh 100\\%\n@weekly mail ops%Hello\n"
    done = saltpeter("import-crontab", "-", "--targets", "db*", "--zone", "Europe/Oslo", typed=crontab)
    assert done.stderr.startswith("stdin:1: MAILTO=me: nobody is mailed")
    (tmp_path / "cron.yaml").write_text(done.stdout)
    assert saltpeter("check", str(tmp_path)).stdout == "2 jobs in force, 0 errors, 0 warnings\n"
    assert "description: Every night" in done.stdout


def test_a_line_that_is_lost_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    file.write_text("@reboot root /bin/start\n@daily root /bin/stay\n")
    done = saltpeter("import-crontab", str(file), "--targets", "web01", "--system", code=1)
    assert done.stderr.startswith(f"{file}:1: left out: @reboot")
    assert "user: root" in done.stdout
    assert "timezone: UTC" in done.stdout, "this host's, since nothing else is said"
    nowhere = saltpeter("import-crontab", str(tmp_path / "no"), "--targets", "*", code=1)
    assert nowhere.stderr == f"saltpeter: {tmp_path}/no: No such file or directory\n"


# --- help and completion -------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with what has to be typed for it; groups only through their members."""
    for command in map(load, (name for section in SECTIONS.values() for name in section)):
        if isinstance(command, click.Group):
            yield from ((f"{command.name} {name}", each) for name, each in command.commands.items())
        else:
            yield str(command.name), command


@pytest.mark.parametrize(("typed", "command"), [*commands()])
def test_every_help_has_an_example(typed: str, command: click.Command) -> None:
    out = saltpeter(*typed.split(), "--help").stdout
    examples = [line for line in out.splitlines() if f"saltpeter {typed}" in line and "Usage:" not in line]
    assert examples, out
    summary = command.get_short_help_str(90)
    assert not summary.endswith("..."), summary


def test_every_command_is_listed_by_its_name() -> None:
    names = [name for section in SECTIONS.values() for name in section]
    assert [load(name).name for name in names] == names
    known = set(map(load, names))
    members = {each for command in known if isinstance(command, click.Group) for each in command.commands.values()}
    assert {each for each in defined() if each not in members} == known


def defined() -> Iterator[click.Command]:
    for module in pkgutil.iter_modules(cli.__path__, "saltpeter.cli."):
        found = vars(importlib.import_module(module.name)).values()
        yield from (each for each in found if isinstance(each, click.Command))


def test_a_command_loads_no_more_than_it_needs() -> None:
    code = "import sys; from saltpeter.cli import load; load('status'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "saltpeter.client" in loaded
    assert not {"saltpeter.daemon", "saltpeter.lab", "saltpeter.store.sqlite", "salt", "prometheus_client"} & {*loaded}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_for_every_shell(shell: str) -> None:
    assert f"_SALTPETER_COMPLETE={shell}_complete" in saltpeter("completion", shell).stdout


def complete(*words: str, socket: str) -> list[str]:
    """What bash is offered for the last of `words`."""
    env = {**os.environ, "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), "SALTPETER_SOCKET": socket}
    env["_SALTPETER_COMPLETE"] = "bash_complete"
    done = subprocess.run([sys.executable, "-m", "saltpeter"], env=env, capture_output=True, text=True, check=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_commands_are_completed_without_a_daemon() -> None:
    assert complete("saltpeter", "hi", socket="/nowhere") == ["history"]
    assert complete("saltpeter", "run", "h", socket="/nowhere") == []
