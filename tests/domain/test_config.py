"""From what people write to what is in force, and what they are told about the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from textwrap import dedent, indent
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saltpeter.domain.config import (
    NEEDS_RESTART,
    Assembly,
    Host,
    assemble,
    changed_for_restart,
    notes,
    parse_file,
    unreadable,
)
from saltpeter.domain.job import (
    KEEP_EVERYTHING,
    Config,
    Job,
    Overlap,
    Retention,
    Retry,
    SecretSource,
    Share,
    Target,
    TargetType,
    WrapperSettings,
)
from saltpeter.domain.schedule import DayMatch, Fields, Misfire, Schedule
from saltpeter.domain.written import WrittenJob, WrittenSettings, keys_of

NOW = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)
BERLIN = ZoneInfo("Europe/Berlin")
HOST = Host(statedir="/var/lib/saltpeter", logdir="/var/log/saltpeter", zone=BERLIN)

JOB = "{schedule: '@daily', command: 'true', targets: '*'}"


def load(files: Mapping[str, str] | str, before: Assembly | None = None) -> Assembly:
    files = {"jobs.yaml": files} if isinstance(files, str) else files
    return assemble([parse_file(f"/conf.d/{name}", dedent(text)) for name, text in files.items()], before, HOST, NOW)


def told(config: Config) -> list[str]:
    return [str(problem).removeprefix("/conf.d/") for problem in config.problems]


LEAST = {"schedule": "'@daily'", "command": "'true'", "targets": "'*'"}


def completed(keys: str) -> str:
    """A job called `it` with `keys`, each on a line of its own from line 2 on, and the least that it needs."""
    lines = dedent(keys).strip().splitlines()
    given = {line.partition(":")[0] for line in lines}
    least = {key: value for key, value in LEAST.items() if key not in given}
    if given & {"min", "hour"} and "schedule" not in given:
        least.pop("schedule")
    return "it:\n" + indent("\n".join([*lines, *(f"{key}: {value}" for key, value in least.items())]), "  ")


def job(keys: str) -> Job:
    """The job that has `keys`. Nothing may be wrong with it."""
    config = load(completed(keys)).config
    assert told(config) == []
    return config.jobs["it"]


# --- what jobs say ----------------------------------------------------------------------------------------


def test_a_job_of_the_older_saltpeter_loads_as_it_is() -> None:
    config = load("""\
        example:
            year: '*'
            mon: '*'
            dow: '*'
            dom: '*'
            hour: '1-23'
            min: '*/2'
            sec: 0,15,30,45
            cwd: '/home/user'
            user: 'user'
            command: 'hostname; whoami'
            hard_timeout: 120
            targets: 'G@roles:webserver or G@host:testhost1'
            target_type: compound
            number_of_targets: 0
            batch_size: 0
            use_wrapper: true
            wrapper_path: '/opt/sp_wrapper.py'
            wrapper_loglevel: off
            wrapper_logdir: /var/log/example
            allow_overlap: 'i know what i am doing!'
    """).config
    assert told(config) == []
    example = config.jobs["example"]
    assert example.schedule == Schedule(Fields(min="*/2", hour="1-23", sec="0,15,30,45"), BERLIN)
    assert example.target == Target("G@roles:webserver or G@host:testhost1", TargetType.COMPOUND)
    assert (example.group, example.path, example.line) == ("jobs", "/conf.d/jobs.yaml", 1)
    assert (example.user, example.cwd, example.timeout_s) == ("user", "/home/user", 120.0)
    assert (example.number_of_targets, example.batch_size, example.overlap) == (None, None, Overlap.ALLOW)
    assert example.wrapper == WrapperSettings("/opt/sp_wrapper.py", "off", "/var/log/example")
    assert example.written["number_of_targets"] == 0


def test_what_a_job_does_not_say_has_defaults() -> None:
    least = job("")
    assert least.schedule == Schedule(Fields.parse("@daily"), BERLIN)
    assert least.target == Target("*", TargetType.GLOB)
    assert (least.timeout_s, least.kill_grace_s, least.kill_signal) == (3600.0, 5.0, "TERM")
    assert (least.retry, least.overlap, least.use_wrapper, least.enabled) == (Retry(), Overlap.SKIP, True, True)


@pytest.mark.parametrize(
    ("keys", "attribute", "value"),
    [
        ("timeout: 0", "timeout_s", math.inf),
        ('timeout: "90"', "timeout_s", 90.0),
        ("timeout: 1.5h", "timeout_s", 5400.0),
        ("hard_timeout: 2m", "timeout_s", 120.0),
        ("kill_grace: 0", "kill_grace_s", 0.0),
        ("kill_signal: 15", "kill_signal", "TERM"),
        ("kill_signal: sigint", "kill_signal", "INT"),
        ("splay: 5 m", "splay_s", 300.0),
        ("output_limit: 64MiB", "output_limit", 64 * 1024 * 1024),
        ("output_limit: 10k", "output_limit", 10240),
        ("output_limit: 2048", "output_limit", 2048),
        ("batch_size: 5", "batch_size", Share(5)),
        ("batch_size: 20%", "batch_size", Share(20, percent=True)),
        ("batch_size: 0", "batch_size", None),
        ("max_failures: 3", "max_failures", Share(3)),
        ("success: any", "success", Share(1)),
        ("success: ALL", "success", Share(100, percent=True)),
        ("success: 90 %", "success", Share(90, percent=True)),
        ("number_of_targets: '2'", "number_of_targets", 2),
        ("overlap: queue", "overlap", Overlap.QUEUE),
        ("retries: 3\nretry_delay: 1m\nretry_backoff: 1.5", "retry", Retry(3, 60.0, 1.5)),
        ("env: {A: 1, B: yes, C: 10:30, D: 010, E: , F: ''}", "env",
         {"A": "1", "B": "yes", "C": "10:30", "D": "010", "E": "", "F": ""}),
        ("secret_env: {A: {file: /run/a}, B: {command: pass b}}", "secret_env",
         {"A": SecretSource(file="/run/a"), "B": SecretSource(command="pass b")}),
        ("tags: [nightly, db]", "tags", ("nightly", "db")),
        ("tags: nightly, db", "tags", ("nightly", "db")),
        ("owner: no", "owner", "no"),
        ("owner: ''", "owner", ""),
        ("user: ", "user", None),
        ("enabled: off", "enabled", False),
        ("use_wrapper: no", "use_wrapper", False),
        ("targets: [web1, web2]", "target", Target("web1,web2", TargetType.LIST)),
        ("targets: 'web1, web2'\ntarget_type: list", "target", Target("web1,web2", TargetType.LIST)),
    ],
)  # fmt: skip
def test_every_way_to_write_a_value(keys: str, attribute: str, value: object) -> None:
    assert getattr(job(keys), attribute) == value


def test_a_job_on_this_host_needs_no_targets() -> None:
    config = load("it: {schedule: '@daily', command: x, target_type: local}").config
    assert config.jobs["it"].target == Target("*", TargetType.LOCAL)


@pytest.mark.parametrize(
    ("keys", "schedule"),
    [
        ("min: 30\nhour: 3", Schedule(Fields("30", "3"), BERLIN)),
        ("min: 0\nhour: 0\ndom: '*/2'\nyear: 2027", Schedule(Fields("0", "0", "*/2", year="2027"), BERLIN)),
        ("min: 08\nhour: 010", Schedule(Fields("08", "010"), BERLIN)),
        ("utc: true", Schedule(Fields.parse("@daily"), ZoneInfo("UTC"))),
        ("utc: false", Schedule(Fields.parse("@daily"), BERLIN)),
        ("timezone: Asia/Tokyo", Schedule(Fields.parse("@daily"), ZoneInfo("Asia/Tokyo"))),
        ("timezone: UTC\nutc: yes", Schedule(Fields.parse("@daily"), ZoneInfo("UTC"))),
        (
            "misfire: all\nmisfire_grace: 1h",
            Schedule(Fields.parse("@daily"), BERLIN, DayMatch.ANY, Misfire.ALL, 3600.0),
        ),
        ("schedule: 0 0 13 * FRI\nday_match: all", Schedule(Fields.parse("0 0 13 * fri"), BERLIN, DayMatch.ALL)),
    ],
)
def test_every_way_to_write_a_schedule(keys: str, schedule: Schedule) -> None:
    assert job(keys).schedule == schedule


def test_templates_may_be_merged_in() -> None:
    config = load("""\
        first: &base {schedule: '@daily', command: one, targets: '*', timeout: 60}
        second:
          <<: *base
          command: two
    """).config
    assert told(config) == []
    assert (config.jobs["second"].command, config.jobs["second"].timeout_s) == ("two", 60.0)


# --- what people are told ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("timeot: 5", "2: it.timeot: unknown key; did you mean timeout?"),
        ("frobnicate: 5", "2: it.frobnicate: unknown key"),
        ("timeout: 10:30", "2: it.timeout: '10:30' is not a time: write seconds, or"),
        ("timeout: -1", "2: it.timeout: '-1' is not a time: write seconds, or"),
        ("timeout: 9999999h", "2: it.timeout: '9999999h' is more than ten years"),
        ("timeout: 5\ntimeout: 6", "3: it.timeout: was given before, in line 2"),
        ("utc: maybe", "2: it.utc: 'maybe' is not true or false"),
        ("utc: true\ntimezone: Asia/Tokyo", "2: it.utc: contradicts timezone: Asia/Tokyo"),
        ("timezone: Europe/Berln", "2: it.timezone: 'Europe/Berln' is not a time zone; did you mean Europe/Berlin?"),
        ("timezone: ../../etc/passwd", "2: it.timezone: '../../etc/passwd' is not a time zone"),
        ("schedule: 61 * * * *", "2: it.schedule: min: 61 is not in 0-59"),
        ("schedule: 0 0 31 2 *", "2: it.schedule: no date is ever like 0 0 31 2 *"),
        ("schedule: 0 0 0 1 1 * 2020", "2: it.schedule: 0 0 0 1 1 * 2020 is over: no date to come is like it"),
        ("schedule: '@daily'\nhour: 3", "3: it.hour: cannot stand beside schedule, which says it all"),
        ("overlap: skpi", "2: it.overlap: 'skpi' is none of skip, queue, replace, allow; did you mean skip?"),
        ("overlap: skip\nallow_overlap: i know what i am doing!", "3: it.allow_overlap: contradicts overlap: skip"),
        ("kill_signal: TRM", "2: it.kill_signal: 'TRM' is not a signal; did you mean SIGTERM?"),
        ("env: {SP_TOKEN: x}", "2: it.env: SP_TOKEN: names that begin with SP_ belong to saltpeter"),
        ("env:\n  1A: x", "3: it.env: '1A' cannot be a variable's name"),
        ("env: 5", "2: it.env: must be names with values"),
        ("secret_env: {A: x}", "2: it.secret_env: A must say where its value is: either file or command"),
        ("mask_secrets: true", "2: warning: it.mask_secrets: has no effect without secret_env"),
        ("env: {A: x}\nsecret_env: {A: {file: /a}}", "3: it.secret_env: A is given in env as well"),
        ("number_of_targets: two", "2: it.number_of_targets: 'two' is not a whole number of 0 or more"),
        ("batch_size: 1.5", "2: it.batch_size: '1.5' is not a whole number of machines"),
        ("batch_size: 120%", "2: it.batch_size: '120%' is not more than 0% and up to 100%"),
        ("max_failures: 0", "2: it.max_failures: 0 would stop before the start;"),
        ("success: 0", "2: it.success: 0 machines always succeed; the least is any"),
        ("output_limit: 5", "2: it.output_limit: '5' is less than 1024 bytes"),
        ("output_limit: lots", "2: it.output_limit: 'lots' is not a size: write bytes, or"),
        ("cwd: tmp", "2: it.cwd: 'tmp' is not an absolute path"),
        ("wrapper_path: /a=b/sp_wrapper.py", "2: it.wrapper_path: '/a=b/sp_wrapper.py' must not contain '='"),
        ("user: a b", "2: it.user: 'a b' is not a user's name"),
        ("command: ", "2: it.command: is missing"),
        ("command: [a]", "2: it.command: must be text"),
        ("targets: []", "2: it.targets: is empty"),
        ("targets: [a]\ntarget_type: glob", "3: it.target_type: must be list, or left out, where targets is a list"),
        ("retries: 101", "2: it.retries: is more than 100"),
        ("allow_overlap: please", "2: warning: it.allow_overlap: has no effect unless it says"),
        ("soft_timeout: 5", "2: warning: it.soft_timeout: has no effect; timeout ends a command"),
        ("timeout: 5\nhard_timeout: 6", "3: warning: it.hard_timeout: has no effect beside timeout"),
        ("group: web", "2: warning: it.group: has no effect; a job's group is its file's name"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_is(keys: str, said: str) -> None:
    [problem] = told(load(completed(keys)).config)
    assert problem.startswith(f"jobs.yaml:{said}")


def test_all_that_is_wrong_with_a_job_is_said_at_once() -> None:
    config = load("""\
        bad:
          hour: 25
          dom: x
          timout: 5
          cwd: tmp
    """).config
    assert told(config) == [
        "jobs.yaml:1: bad.command: is missing",
        "jobs.yaml:1: bad.min: is missing (or a schedule)",
        "jobs.yaml:1: bad.targets: is missing",
        "jobs.yaml:4: bad.timout: unknown key; did you mean timeout?",
        "jobs.yaml:5: bad.cwd: 'tmp' is not an absolute path",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "jobs.yaml:2: while parsing a flow node, did not find expected node content"),
        ("a:\n  min: *", "jobs.yaml:2: while scanning an alias, did not find expected alphabetic or numeric character"),
        ("a:\n\tmin: 1", "jobs.yaml:2: while scanning for the next token, found character that cannot start any token"),
        ("a: 1\n---\nb: 2", "jobs.yaml:2: a second document in the file"),
        ("a: !!python/name:os.system", "jobs.yaml:1: the tag tag:yaml.org,2002:python/name:os.system is not supported"),
        ("a: \x07", "jobs.yaml:1: a character that YAML does not allow"),
        ("\n\ud800", "jobs.yaml:2: not a character"),
        ("[" * 1000, "jobs.yaml:1: more than 20 levels deep"),
        ("a: &a [*a]", "jobs.yaml:1: *a stands for nothing that was finished before it"),
        ("- a", "jobs.yaml:1: a file holds jobs by their names, each with its keys below it"),
        ("a" * 1048577, "jobs.yaml: longer than 1048576 characters"),
        ("a: 5", "jobs.yaml:1: a: must be keys with their values below it"),
        ("'': {}", "jobs.yaml:1: a job needs a name"),
        ('"a\\tb": {}', "jobs.yaml:1: a\tb: a job's name must not hold control characters"),
    ],
)
def test_files_that_make_no_sense(text: str, said: str) -> None:
    config = load({"jobs.yaml": text, "other.yaml": f"good: {JOB}"}).config
    assert any(each.startswith(said) for each in told(config)), told(config)
    assert list(config.jobs) == ["good"]


def test_repetition_by_aliases_is_bounded() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert told(load(bomb).config) == ["jobs.yaml:7: more than 200000 values, repeated ones counted"]


SCRAPS = """a:·|b:\n|··|\n|'*'|*x·|&x·|-·|{|}|[|]|,·|5|yes|~|#|"|command:·|min:·|<<:·|targets:·|timeout:·|!!int·|
saltpeter_config:·|saltpeter_maintenance:·"""
scraps = st.sampled_from([scrap.replace("·", " ") for scrap in SCRAPS.split("|")])


@given(st.one_of(st.text(max_size=60), st.lists(scraps, max_size=25).map("".join)))
@settings(max_examples=400, deadline=None)
def test_no_text_is_too_much(text: str) -> None:
    config = load(text).config
    for problem in config.problems:
        assert problem.line <= text.count("\n") + text.count("\r") + text.count("\x85") + 3


keys_of_jobs = st.sampled_from(sorted(keys_of(WrittenJob)))
odd_values = st.sampled_from(
    [
        "0",
        "-1",
        "5",
        "1e400",
        "99999999999",
        "'*'",
        "''",
        "[]",
        "[a, b]",
        "{}",
        "{a: {b: c}}",
        "yes",
        "~",
        "'%'",
        "x,y",
        "é",
    ]
)


@given(st.dictionaries(keys_of_jobs, odd_values, max_size=12))
@settings(max_examples=300, deadline=None)
def test_no_value_is_too_odd(keys: dict[str, str]) -> None:
    lines = "".join(f"  {key}: {value}\n" for key, value in keys.items())
    config = load(f"it:\n{lines}").config
    assert ("it" in config.jobs) != any(problem.fatal for problem in config.problems) or not keys


# --- what stays in force ----------------------------------------------------------------------------------


def test_a_bad_job_leaves_its_last_good_version_and_all_others() -> None:
    first = load(f"a: {JOB}\nb: {JOB}\n")
    second = load(
        "a: {schedule: nonsense, command: x, targets: '*'}\nb: {schedule: '@hourly', command: x, targets: '*'}\n", first
    )
    assert second.config.jobs["a"] == first.config.jobs["a"]
    assert second.config.jobs["b"].command == "x"
    assert len(second.config.problems) == 1
    third = load(f"b: {JOB}\n", second)
    assert list(third.config.jobs) == ["b"]


def test_a_bad_file_leaves_all_that_it_said() -> None:
    good = f"a: {JOB}\nsaltpeter_config: {{debug: true}}\nsaltpeter_maintenance: {{machines: [web1]}}\n"
    first = load(good)
    second = load("a: [", first)
    third = assemble([unreadable("/conf.d/jobs.yaml", "Permission denied")], second, HOST, NOW)
    for assembly in (second, third):
        assert assembly.config.jobs == first.config.jobs
        assert assembly.config.settings.debug
        assert assembly.config.maintenance.machines == {"web1"}
        assert len(assembly.config.problems) == 1
    assert load(good, third).config == first.config


def test_what_did_not_change_is_not_made_again() -> None:
    kept = parse_file("/conf.d/a.yaml", f"a: {JOB}")
    first = assemble([kept], None, HOST, NOW)
    second = assemble([kept, parse_file("/conf.d/b.yaml", f"b: {JOB}")], first, HOST, NOW)
    assert second.config.jobs["a"] is first.config.jobs["a"]
    third = assemble(
        [kept, parse_file("/conf.d/b.yaml", "saltpeter_config: {timezone: Asia/Tokyo}")], second, HOST, NOW
    )
    assert third.config.jobs["a"].schedule.zone == ZoneInfo("Asia/Tokyo")


def test_of_two_jobs_with_one_name_the_first_counts_and_both_places_are_told() -> None:
    config = load({"b.yaml": f"it: {JOB}", "a.yaml": f"\nit: {JOB}\nit: {JOB}\n"}).config
    assert told(config) == [
        "a.yaml:3: it: there is a job of this name in /conf.d/a.yaml:2, which counts",
        "b.yaml:1: it: there is a job of this name in /conf.d/a.yaml:2, which counts",
    ]
    assert config.jobs["it"].group == "a"


# --- settings and maintenance -----------------------------------------------------------------------------


def test_settings_of_the_older_saltpeter() -> None:
    config = load("""\
        saltpeter_config:
          logdir: '/var/log/sp'
          debug: yes
          api_ws: true
          api_ws_port: 8890
          api_ws_bind_addr: '0.0.0.0'
          machines_ws_port: "8891"
          machines_ws_bind_addr: '0.0.0.0'
          default_saltpeter_server_host: 'saltpeter.example.com'
          default_wrapper_path: '/opt/sp_wrapper.py'
          default_wrapper_loglevel: off
          default_wrapper_logdir: '/var/log/wrappers'
          elasticsearch: ''
          opensearch: 'http://opensearch:9200'
        it: {schedule: '@daily', command: x, targets: '*'}
    """).config
    assert told(config) == [
        "jobs.yaml:14: warning: saltpeter_config.opensearch: has no effect: saltpeter keeps the history itself"
    ]
    found = config.settings
    assert (found.logdir, found.statedir, found.debug, found.api_ws_port) == ("/var/log/sp", HOST.statedir, True, 8890)
    assert (found.machines_ws_port, found.server_host) == (8891, "saltpeter.example.com")
    assert config.jobs["it"].wrapper == WrapperSettings("/opt/sp_wrapper.py", "off", "/var/log/wrappers")


def test_settings_may_stand_in_several_files_unless_they_disagree() -> None:
    config = load(
        {
            "a.yaml": "saltpeter_config: {debug: true, api_ws_port: 1}",
            "b.yaml": "saltpeter_config: {debug: true, api_ws_port: 2, respond_within: 1m}",
        }
    ).config
    assert told(config) == [
        "b.yaml:1: saltpeter_config.api_ws_port: says something else than /conf.d/a.yaml:1, which counts"
    ]
    assert (config.settings.api_ws_port, config.settings.respond_within_s) == (1, 60.0)


def test_a_bad_setting_leaves_its_last_good_value() -> None:
    first = load("saltpeter_config: {api_ws_port: 1234, timezone: Asia/Tokyo, log_format: json}")
    second = load("saltpeter_config: {api_ws_port: 70000, timezone: Nowhere, log_format: jsno, nonsense: 1}", first)
    assert second.config.settings == first.config.settings
    assert [problem.key for problem in second.config.problems] == ["api_ws_port", "log_format", "nonsense", "timezone"]
    assert load("saltpeter_config: 5", second).config.settings == first.config.settings


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("{days: 30}", Retention(30, None, 10 * 1024**3)),
        ("{days: 0, runs_per_job: 1000, bytes: 2.5GiB}", Retention(None, 1000, 5 * 1024**3 // 2)),
        ("{days: , bytes: 0}", Retention(90, None, None)),
    ],
)
def test_what_is_kept(written: str, means: Retention) -> None:
    config = load(f"saltpeter_config: {{retention: {written}}}").config
    assert (told(config), config.settings.retention) == ([], means)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("90", "1: saltpeter_config.retention: must be keys with their values: days, runs_per_job, bytes"),
        ("{dayz: 3}", "1: saltpeter_config.retention: unknown key dayz; did you mean days?"),
        ("{days: 1, days: 2}", "1: saltpeter_config.retention: days was given before, in line 1"),
        ("{days: 10000}", "1: saltpeter_config.retention: 10000 days are more than ten years; 0 is no limit"),
        ("{days: forever}", "1: saltpeter_config.retention: 'forever' is not a whole number of 0 or more"),
        ("{bytes: 1MiB}", "1: saltpeter_config.retention: '1MiB' is less than 16 MiB"),
    ],
)
def test_a_wrong_retention_forgets_nothing_more(written: str, said: str) -> None:
    before = load("saltpeter_config: {retention: {days: 365}}")
    config = load(f"saltpeter_config: {{retention: {written}}}", before).config
    assert told(config) == [f"jobs.yaml:{said}"]
    assert config.settings.retention == Retention(days=365)


@pytest.mark.parametrize("text", ["saltpeter_config: {retention: {days: forever}}", "saltpeter_config: [", ""])
def test_nothing_is_forgotten_while_nobody_knows_what_to_keep(text: str) -> None:
    at_start = load(text)
    assert at_start.config.settings.retention == (KEEP_EVERYTHING if text else Retention())
    mended = load("saltpeter_config: {retention: {days: 30}}", at_start)
    assert mended.config.settings.retention == Retention(days=30)


def test_what_needs_a_restart() -> None:
    known = keys_of(WrittenSettings)
    assert known.keys() >= NEEDS_RESTART
    old = load("saltpeter_config: {debug: false}").config.settings
    new = load(
        "saltpeter_config: {debug: true, api_ws_port: 1, default_wrapper_path: /x, statedir: /x,"
        " default_saltpeter_server_host: there}"
    ).config.settings
    assert changed_for_restart(old, new) == ("api_ws_port", "default_saltpeter_server_host", "statedir")


def test_maintenance_of_all_files_adds_up() -> None:
    first = load(
        {
            "a.yaml": "saltpeter_maintenance: {global: false, machines: [web1]}",
            "b.yaml": "saltpeter_maintenance: {machines: 'web2, web3'}",
        }
    )
    assert not first.config.maintenance.everything
    assert first.config.maintenance.machines == {"web1", "web2", "web3"}
    second = load({"a.yaml": "saltpeter_maintenance: {global: perhaps, machines: {}}"}, first)
    assert second.config.maintenance == first.config.maintenance
    assert len(second.config.problems) == 2
    assert load({"a.yaml": "saltpeter_maintenance: {global: true}"}).config.maintenance.everything


def test_notes_for_those_who_come_from_the_older_saltpeter() -> None:
    config = load("""\
        local: {schedule: '@daily', command: x, targets: '*'}
        either: {schedule: '0 0 13 * FRI', command: x, targets: '*', utc: true}
        both: {schedule: '0 0 13 * FRI', command: x, targets: '*', utc: true, day_match: all}
    """).config
    assert [(note.line, note.job, note.key, note.fatal) for note in notes(config)] == [
        (1, "local", "timezone", False),
        (2, "either", "day_match", False),
    ]


@pytest.mark.parametrize("name", ["UTC", "Etc/UTC", "Etc/Zulu"])
def test_on_a_host_whose_zone_is_utc_there_is_nothing_to_note_about_it(name: str) -> None:
    written = parse_file("/conf.d/a.yaml", "local: {schedule: '@daily', command: x, targets: '*'}")
    host = attrs.evolve(HOST, zone=ZoneInfo(name))
    assert list(notes(assemble([written], None, host, NOW).config)) == []


def test_a_thousand_jobs_are_read_within_a_second() -> None:
    text = "".join(
        f"job{index}: {{min: {index % 60}, hour: 3, command: 'true', targets: '*'}}\n" for index in range(1000)
    )
    begin = datetime.now(timezone.utc)
    assert len(load(text).config.jobs) == 1000
    assert datetime.now(timezone.utc) - begin < timedelta(seconds=5)  # a third of one on an idle machine
