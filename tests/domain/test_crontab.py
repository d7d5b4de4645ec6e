"""Crontabs become jobs: the same commands at the same times."""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from saltpeter.domain.config import Host, assemble
from saltpeter.domain.crontab import Imported, Origin, parse, render
from saltpeter.domain.document import parse_file
from saltpeter.domain.job import Config, Job

NOW = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)
HOST = Host(statedir="/s", logdir="/l", zone=timezone.utc)
ORIGIN = Origin(targets="db*")


def loaded(imported: Imported) -> Config:
    """What the daemon makes of it."""
    return assemble([parse_file("cron.yaml", render(imported.entries, "a test"))], None, HOST, NOW).config


def jobs(text: str, origin: Origin = ORIGIN) -> dict[str, Job]:
    imported = parse(text, origin)
    assert imported.complaints == ()
    config = loaded(imported)
    assert config.problems == ()
    return dict(config.jobs)


def complaints(text: str) -> list[tuple[int, str]]:
    return [(each.line, each.text) for each in parse(text, ORIGIN).complaints]


def ran(job: Job) -> str:
    """What the command prints when a shell runs it as the wrapper does."""
    return subprocess.run(["/bin/sh", "-c", job.command], capture_output=True, text=True, check=True).stdout


def test_a_line_is_a_job() -> None:
    [(name, job)] = jobs("30 3 * * mon-fri  /usr/local/bin/backup.sh --full >/dev/null 2>&1\n").items()
    assert name == "backup"
    assert job.command == "/usr/local/bin/backup.sh --full >/dev/null 2>&1"
    assert str(job.schedule.fields) == "30 3 * * mon-fri"
    assert job.target.expression == "db*"
    assert job.timeout_s == float("inf"), "cron ends nothing"


def test_the_comment_above_a_line_describes_it() -> None:
    text = "# left over\n\n# Nightly backup\n# of everything\n0 3 * * * backup\n0 4 * * * clean\n"
    assert {name: job.description for name, job in jobs(text).items()} == {
        "backup": "Nightly backup of everything",
        "clean": "",
    }


def test_variables_count_for_the_lines_below_them() -> None:
    text = 'A=1\n0 1 * * * one\nB = "two words "\n  A=2\n0 2 * * * two\n'
    assert {name: dict(job.env) for name, job in jobs(text).items()} == {
        "one": {"A": "1"},
        "two": {"A": "2", "B": "two words "},
    }


def test_a_command_may_begin_with_assignments() -> None:
    [job] = jobs("* * * * * A=1 B=2 cmd\n").values()
    assert (job.name, job.command, dict(job.env)) == ("cmd", "A=1 B=2 cmd", {})


def test_the_zone_is_cron_tz_else_the_origin_s() -> None:
    text = "0 1 * * * one\nCRON_TZ=Asia/Tokyo\n0 2 * * * two\n"
    zones = {name: str(job.schedule.zone) for name, job in jobs(text, Origin(targets="*", zone="Europe/Oslo")).items()}
    assert zones == {"one": "Europe/Oslo", "two": "Asia/Tokyo"}


@pytest.mark.parametrize(
    ("written", "fields"),
    [
        ("@daily", "0 0 * * *"),
        ("@Hourly", "0 * * * *"),
        ("@every_minute", "* * * * *"),
        ("@every_second", "* * * * * *"),
        ("-*/5 * * * *", "*/5 * * * *"),
    ],
)
def test_other_ways_to_say_when(written: str, fields: str) -> None:
    [job] = jobs(f"{written}\tx\n".replace("\t", " ")).values()
    assert str(job.schedule.fields) == fields


def test_a_random_delay_is_a_splay() -> None:
    [job] = jobs("RANDOM_DELAY=45\n@daily x\n").values()
    assert job.splay_s == 45 * 60
    assert dict(job.env) == {}


def test_a_system_crontab_names_the_user() -> None:
    [job] = jobs(
        "17 * * * *\troot    cd / && run-parts --report /etc/cron.hourly\n", Origin(targets="*", system=True)
    ).values()
    assert (job.name, job.user, job.command) == ("run-parts", "root", "cd / && run-parts --report /etc/cron.hourly")


def test_a_user_s_crontab_runs_as_that_user() -> None:
    [job] = jobs("HOME=/srv/app\n@daily x\n", Origin(targets="*")).values()
    assert (job.user, job.cwd, dict(job.env)) == (None, "/srv/app", {"HOME": "/srv/app"})
    imported = parse("HOME=/srv/app\n@daily x\n", Origin(targets="*", user="app"))
    [job] = loaded(imported).jobs.values()
    assert (job.user, job.cwd, dict(job.env)) == ("app", "/srv/app", {})
    assert [each.text for each in imported.complaints] == [
        "HOME=/srv/app: the command starts there, but its HOME is that of app"
    ]


def test_what_stands_after_a_percent_sign_is_what_the_command_reads() -> None:
    [job] = jobs("0 0 * * * cat; echo 'it''s' over%Dear,%%100\\% yours\n").values()
    assert ran(job) == "Dear,\n\n100% yours\nits over\n"


def test_an_escaped_percent_sign_is_one() -> None:
    [job] = jobs("0 0 * * * echo 50\\% of it\n").values()
    assert (job.command, ran(job)) == ("echo 50% of it", "50% of it\n")


def test_what_is_read_may_hold_anything_that_ends_it() -> None:
    [job] = jobs("0 0 * * * cat%$HOME `x`%END_OF_INPUT%last\n").values()
    assert ran(job) == "$HOME `x`\nEND_OF_INPUT\nlast\n"


def test_another_shell_runs_the_command() -> None:
    [job] = jobs('SHELL=/bin/bash\n0 0 * * * [[ a == a ]] && echo "it\'s $BASH"\n').values()
    assert ran(job) == "it's /bin/bash\n"
    assert "SHELL" not in job.env
    [job] = jobs("SHELL=/bin/bash\n0 0 * * * read line; echo ${line^^}%hello\n").values()
    assert ran(job) == "HELLO\n"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/bin/python3 -u /srv/app/tasks.py now", "tasks.py"),
        ("cd /srv/app && ./bin/run --fast", "run"),
        ("test -x /usr/sbin/anacron || ( cd / && run-parts /etc/cron.daily )", "run-parts"),
        ("[ -x /usr/bin/foo ] && /usr/bin/foo", "foo"),
        ("nice -n 10 ionice -c3 /opt/dump.sh", "dump"),
        ("flock -n /tmp/lock timeout -k 5 60 sync", "sync"),
        ("A=1 /usr/bin/env B=2 thing", "thing"),
        ("cd /srv;make report", "make"),
        ("echo 'unclosed", "echo"),
        ("'***'", "job"),
        ("saltpeter_config", "saltpeter_config_2"),
    ],
)
def test_jobs_are_called_after_their_program(command: str, name: str) -> None:
    assert [*jobs(f"0 0 * * * {command}\n")] == [name]


def test_no_two_are_called_the_same() -> None:
    assert [*jobs("@daily x 1\n@daily x 2\n@daily x 3\n")] == ["x", "x_2", "x_3"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("@reboot start", "@reboot: saltpeter does not see machines start"),
        ("@fortnightly x", "@fortnightly is not supported"),
        ("0~59 * * * * x", "to spread starts, use splay"),
        ("0 0 31 2 * x", "no date is ever like"),
        ("0 25 * * * x", "25 is not in 0-23"),
        ("0 0 * * *", "neither a variable nor five fields and a command"),
        ("0 0 * * * %only input", "there is no command"),
        ("0 0 * * * null\0byte", "command holds a NUL"),
        ("nonsense", "neither a variable nor five fields and a command"),
    ],
)
def test_a_line_that_is_no_job_of_ours_is_left_out_and_said(line: str, said: str) -> None:
    [(number, text)] = complaints(f"@daily before\n{line}\n@daily after\n")
    assert number == 2
    assert text.startswith("left out: ")
    assert said in text
    assert [entry.name for entry in parse(f"{line}\n@daily after\n", ORIGIN).entries] == ["after"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("MAILTO=ops@example.com", "nobody is mailed"),
        ("LOGNAME=x", "the user that it runs as"),
        ("SP_TOKEN=x", "belong to saltpeter"),
        ("CRON_TZ=Mars/Olympus", "the jobs below keep the zone from before"),
        ("A B=1", "neither a variable"),
        ("'A B'=1", "'A B' cannot be a variable's name"),
    ],
)
def test_a_variable_that_cannot_be_carried_over_is_said(line: str, said: str) -> None:
    [(number, text)] = complaints(f"{line}\n")
    assert number == 1
    assert said in text


def test_to_mail_nobody_is_what_happens_anyway() -> None:
    assert complaints('MAILTO=""\nMAILTO=\n') == []


LINES = st.one_of(
    st.text(max_size=30),
    st.builds("{} {}".format, st.sampled_from(["* * * * *", "@daily", "*/7 1-5 L * mon#1"]), st.text(max_size=30)),
    st.builds("{}={}".format, st.text(max_size=8), st.text(max_size=20)),
    st.builds("{}={}".format, st.sampled_from(["SHELL", "HOME", "CRON_TZ", "RANDOM_DELAY"]), st.text(max_size=12)),
    st.builds("#{}".format, st.text(max_size=20)),
)


@given(st.lists(LINES, max_size=8).map("\n".join), st.booleans())
@example("HOME=relative\n@daily x", False)
def test_whatever_a_crontab_holds_the_daemon_can_load_what_comes_of_it(text: str, system: bool) -> None:
    imported = parse(text, Origin(targets="*", system=system, zone="UTC"))
    config = loaded(imported)
    assert config.problems == ()
    assert [*config.jobs] == [entry.name for entry in imported.entries]
