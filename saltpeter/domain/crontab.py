"""Crontabs as jobs: what cron's own files say, in the keys of conf.d. Text in, jobs and YAML text out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import Any

import attrs
import yaml

from saltpeter.domain.cronfields import ALIASES, Fields, ScheduleError
from saltpeter.domain.document import MAINTENANCE_KEY, SETTINGS_KEY, parse_file
from saltpeter.domain.job import Settings
from saltpeter.domain.jobkeys import Surroundings, build_job
from saltpeter.domain.schedule import Schedule
from saltpeter.domain.values import RESERVED, Wrong, zone

CRON_SHELL = "/bin/sh"

_BEFORE_ALL = datetime(1970, 1, 1, tzinfo=timezone.utc)  # a crontab has no years that could be over

_VARIABLE = re.compile(r"""\s*(?P<name>"[^"]*"|'[^']*'|[^\s="'#]+)\s*=\s*(?P<value>.*?)\s*""", re.DOTALL)
_NAME_OF_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TOKEN = re.compile(r"\\.?|%|[^\\%]+")
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_PREFIXES = frozenset({"cd", "exec", "export", "test", "[", "[[", "command", "then", "if", "{", "(", "!", "true", "."})
_WITH_VALUES = {"nice": "n", "ionice": "cnp", "timeout": "sk", "flock": "wE", "chronic": "", "nohup": "", "time": ""}
_FIRST_IS_THEIRS = frozenset({"timeout", "flock"})  # their first word that is no option is not yet the program
_INTERPRETER = re.compile(r"(python|perl|ruby|php|node|bash|dash|zsh|ksh|sh)[0-9.]*")
_SEPARATORS = ("&&", "||", ";", "|", "&")
_NOT_OURS = {
    "MAILTO": "nobody is mailed; a run's output is kept, and its end is told on the control socket",
    "MAILFROM": "nobody is mailed",
    "LOGNAME": "a command sees the name of the user that it runs as",
    "USER": "a command sees the name of the user that it runs as",
    "START_HOURS_RANGE": "a job is due when its own fields say so",
    "CONTENT_TYPE": "nobody is mailed",
    "CONTENT_TRANSFER_ENCODING": "nobody is mailed",
}

_HEADER = """\
# From {source}. Where cron and saltpeter differ:
# - cron ends no command, so these have no timeout; consider one for each.
# - cron starts a job while its last run still lives; these pass the slot over (overlap: allow has both).
"""


@attrs.frozen
class Complaint:
    """What of a crontab could not be carried over; `line` is counted from 1. `lost`: the whole of that line."""

    line: int
    text: str
    lost: bool = False


@attrs.frozen
class Entry:
    """One job: its name, the line that it comes from, and its keys as conf.d has them."""

    name: str
    line: int
    keys: Mapping[str, Any]


@attrs.frozen
class Imported:
    entries: tuple[Entry, ...]
    complaints: tuple[Complaint, ...]


@attrs.frozen(kw_only=True)
class Origin:
    """What a crontab does not say itself. `zone` is an IANA name; None leaves it to the daemon's host."""

    targets: str
    target_type: str | None = None
    user: str | None = None
    zone: str | None = None
    system: bool = False  # as /etc/crontab: a user stands before each command


def parse(text: str, origin: Origin) -> Imported:
    """Read a crontab. Raises nothing: what it holds that is no job of ours is in the complaints."""
    reader = _Reader(origin)
    for number, line in enumerate(text.split("\n"), 1):
        reader.read(number, line.strip())
    return Imported(tuple(reader.entries), tuple(reader.complaints))


def render(entries: Iterable[Entry], source: str) -> str:
    """The file of conf.d. `source` says where the jobs come from."""
    parts = [_HEADER.format(source=" ".join(source.split()))]
    parts += [_dump({entry.name: dict(entry.keys)}) for entry in entries]
    return "\n".join(parts)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dump(content: Mapping[str, Any]) -> str:
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text


@attrs.define
class _Reader:
    """Goes through the lines; what variables and comments say counts for what follows them."""

    origin: Origin
    entries: list[Entry] = attrs.field(factory=list, init=False)
    complaints: list[Complaint] = attrs.field(factory=list, init=False)
    _env: dict[str, str] = attrs.field(factory=dict, init=False)
    _comment: list[str] = attrs.field(factory=list, init=False)
    _names: set[str] = attrs.field(factory=lambda: {SETTINGS_KEY, MAINTENANCE_KEY}, init=False)

    def read(self, number: int, line: str) -> None:
        if line.startswith("#"):
            self._comment.append(line.lstrip("#").strip())
            return
        comment, self._comment = " ".join(filter(None, self._comment)), []
        if not line:
            return
        variable = _VARIABLE.fullmatch(line)
        if variable is not None and not _looks_like_a_job(line):
            self._set(number, _unquoted(variable["name"]), _unquoted(variable["value"]))
        else:
            self._add(number, line, comment)

    def _complain(self, number: int, text: str) -> None:
        self.complaints.append(Complaint(number, text))

    def _leave_out(self, number: int, why: str) -> None:
        self.complaints.append(Complaint(number, f"left out: {why}", lost=True))

    def _set(self, number: int, name: str, value: str) -> None:
        if name in _NOT_OURS:
            if value:
                self._complain(number, f"{name}={value}: {_NOT_OURS[name]}")
        elif not _NAME_OF_VARIABLE.fullmatch(name):
            self._complain(number, f"{name!r} cannot be a variable's name")
        elif name.startswith(RESERVED):
            self._complain(number, f"{name}: variables that begin with {RESERVED} belong to saltpeter")
        elif name == "CRON_TZ" and value:
            self._set_zone(number, value)
        else:
            self._env[name] = value

    def _set_zone(self, number: int, value: str) -> None:
        try:
            self._env["CRON_TZ"] = zone(value.lstrip(":")).key
        except Wrong as exc:
            self._complain(number, f"CRON_TZ={value}: {exc.problem}; the jobs below keep the zone from before")

    def _add(self, number: int, line: str, comment: str) -> None:
        try:
            schedule, rest = _split_schedule(line)
            user, command = self._split_user(rest)
        except ScheduleError as exc:
            self._leave_out(number, exc.problem)
            return
        command, lines = _split_input(command)
        if not command:
            self._leave_out(number, "there is no command")
            return
        keys: dict[str, Any] = {"description": comment} if comment else {}
        keys["schedule"] = schedule
        if zone_name := self._env.get("CRON_TZ", self.origin.zone):
            keys["timezone"] = zone_name
        keys["targets"] = self.origin.targets
        if self.origin.target_type:
            keys["target_type"] = self.origin.target_type
        if user:
            keys["user"] = user
        keys |= self._surroundings(number, user)
        keys["command"] = _whole_command(command, lines, self._env.get("SHELL", CRON_SHELL))
        keys["timeout"] = 0
        if fault := _fault(keys):
            self._leave_out(number, fault)
        else:
            self.entries.append(Entry(self._name(command), number, keys))

    def _split_user(self, rest: str) -> tuple[str | None, str]:
        if not self.origin.system:
            return self.origin.user, rest
        user, _, command = rest.partition(" ")
        return user.partition(":")[0] or None, command.strip()

    def _surroundings(self, number: int, user: str | None) -> dict[str, Any]:
        """What the variables above the line say about the command's world."""
        env = {name: value for name, value in self._env.items() if name not in ("CRON_TZ", "SHELL", "RANDOM_DELAY")}
        keys: dict[str, Any] = {}
        home = env.get("HOME", "")
        if home.startswith("/"):
            keys["cwd"] = home
        if home and user:
            del env["HOME"]
            self._complain(number, f"HOME={home}: the command starts there, but its HOME is that of {user}")
        if env:
            keys["env"] = env
        delay = self._env.get("RANDOM_DELAY", "")
        if delay.isdecimal() and int(delay):
            keys["splay"] = f"{int(delay)}m"
        return keys

    def _name(self, command: str) -> str:
        stem = name = _program(command)
        number = 1
        while name in self._names:
            number += 1
            name = f"{stem}_{number}"
        self._names.add(name)
        return name


def _fault(keys: Mapping[str, Any]) -> str:
    """Why a job with these keys could not be in force; "" when it can."""
    document = parse_file("", _dump({"job": dict(keys)}))
    around = Surroundings(settings=Settings(statedir="", logdir=""), host_zone=timezone.utc, now=_BEFORE_ALL)
    problems = [*document.problems]
    for name, node in document.jobs():
        problems += build_job(document, name, node, around)[1]
    return "; ".join(f"{problem.key} {problem.text}" for problem in problems)


def _looks_like_a_job(line: str) -> bool:
    """`* * * * * A=b command` is a job; `A = * b` a variable."""
    return line.startswith("@") or bool(re.match(r"-?[\d*][^\s=]*\s+[^\s=]+\s+[^\s=]+\s", line))


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _split_schedule(line: str) -> tuple[str, str]:
    """A schedule that is sure to mean something, and the rest of the line. Raises ScheduleError."""
    words = line.lstrip("-").split(None, 5)  # a leading - has some crons write no log
    if line.startswith("@"):
        schedule, _, rest = line.partition(" ")
        schedule = _of_special_name(schedule)
    elif len(words) < 6:
        raise ScheduleError("schedule", f"{line!r} is neither a variable nor five fields and a command")
    else:
        schedule, rest = " ".join(words[:5]), words[5]
    if "~" in schedule:
        raise ScheduleError("schedule", f"{schedule}: random values are not supported; to spread starts, use splay")
    Schedule(Fields.parse(schedule))
    return schedule, rest.strip()


def _of_special_name(name: str) -> str:
    if name == "@reboot":
        raise ScheduleError("schedule", "@reboot: saltpeter does not see machines start; use a unit of theirs")
    if name in ("@every_minute", "@every_second"):  # FreeBSD's
        return "* * * * *" if name == "@every_minute" else "* * * * * *"
    if name.lower() not in ALIASES:
        raise ScheduleError("schedule", f"{name} is not supported")
    return name.lower()


def _split_input(text: str) -> tuple[str, str | None]:
    r"""The command, and what it reads: all after the first %, where each further % ends a line. `\%` is a %."""
    parts = [""]
    for piece in _TOKEN.findall(text):
        if piece == "%":
            parts.append("")
        else:
            parts[-1] += "%" if piece == "\\%" else piece
    command = parts[0].strip()
    return command, "\n".join(parts[1:]) if len(parts) > 1 else None


def _whole_command(command: str, lines: str | None, shell: str) -> str:
    """With what cron does around it: another shell than sh, and lines to read."""
    if shell != CRON_SHELL:
        command = f"exec {shlex.quote(shell)} -c {shlex.quote(command)}"
    if lines is None:
        return command
    end = "END_OF_INPUT"
    while end in lines.split("\n"):
        end += "_"
    return f"exec <<'{end}'\n{lines.removesuffix(chr(10))}\n{end}\n{command}\n"


def _program(command: str) -> str:
    """A name for the job: that of the program which matters, as far as one can see."""
    try:
        words = shlex.split(command.replace("&&", " && ").replace(";", " ; "), posix=True)
    except ValueError:  # a quote that is not closed
        words = command.split()
    for part in _simple_commands(words):
        word = _first_program(part)
        name = _NAME.sub("_", PurePosixPath(word).name.removesuffix(".sh")).strip("._-")
        if name:
            return name[:60]
    return "job"


def _simple_commands(words: Iterable[str]) -> Iterable[list[str]]:
    part: list[str] = []
    for word in [*words, ";"]:
        if word in _SEPARATORS:
            if part and part[0] not in _PREFIXES:
                yield part
            part = []
        else:
            part.append(word)


def _first_program(words: list[str]) -> str:
    """Past assignments, options, and programs that only run another."""
    waiting = list(words)
    word = ""
    while waiting:
        word = waiting.pop(0)
        base = PurePosixPath(word).name
        if _ASSIGNMENT.fullmatch(word) or base in ("env", "sudo"):
            continue
        if base not in _WITH_VALUES and not _INTERPRETER.fullmatch(base):
            return word
        _drop_options(waiting, _WITH_VALUES.get(base, ""))
        if base in _FIRST_IS_THEIRS and waiting:
            waiting.pop(0)
            _drop_options(waiting, "")
    return word


def _drop_options(words: list[str], with_values: str) -> None:
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if len(option) == 2 and option[1] in with_values and words:
            words.pop(0)
