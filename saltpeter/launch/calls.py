"""What a call is in Salt's words, and what Salt's answers mean in ours. No IO."""

from __future__ import annotations

import json
import math
import secrets
import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias, Union

import attrs
from typing_extensions import assert_never

from saltpeter.engine.launcher import (
    UNTOLD,
    Answer,
    AskStatus,
    Call,
    FindPlain,
    KillPlain,
    KillThroughWrapper,
    Ping,
    StartPlain,
    StartWrapper,
    StartWrappers,
    job_of,
    place,
)
from sp_wrapper import codes

RUN_MARK = "SP_JOB_INSTANCE"  # in the environment of everything that a plain start starts
JOB_MARK = "SP_JOB_NAME"
MACHINE_MARK = "SP_MACHINE_ID"

# One order goes to many machines, and each fills in its own id, as Salt knows it, by Salt's own template engine.
_MACHINE = MACHINE_MARK + "={{ opts.id | quote }}"
_KEY = "SP_MACHINE_KEY={{ opts.pki_dir | quote }}/minion.pem"

TRIMMED = "VALUE_TRIMMED"  # what Salt puts in the place of a value that exceeds the master's max_event_size
TRIMMED_TEXT = "[SALTPETER: the output is larger than Salt's max_event_size; Salt dropped it]\n"

# One process on a Linux host is /proc/<pid>; those that die or belong to others meanwhile are passed over.
# The script holds the marks in its arguments only, so it never finds itself. It looks again after each signal,
# because a process may have forked meanwhile, and sends the first signal to none of them twice.
_KILL_SCRIPT = r"""
sig=$1 left_ms=$2 run=$3 machine=$4 told=
marked() {
    found=$(grep -zlxF -e "$run" /proc/[0-9]*/environ 2>/dev/null)
    [ -n "$found" ] && grep -zlxF -e "$machine" $found 2>/dev/null | tr -dc '0-9\n'
}
tell_once() {
    case " $told " in *" $2 "*) ;; *) kill -s "$1" "$2" 2>/dev/null; told="$told $2" ;; esac
}
nap() { sleep 0.1 2>/dev/null || sleep 1; left_ms=$((left_ms - 100)); }
while pids=$(marked); [ -n "$pids" ] && [ "$left_ms" -gt 0 ]; do
    for pid in $pids; do tell_once "$sig" "$pid"; done
    nap
done
left_ms=2000
while pids=$(marked); [ -n "$pids" ] && [ "$left_ms" -gt 0 ]; do
    kill -s KILL $pids 2>/dev/null
    nap
done
[ -z "$pids" ] && exit 0
for pid in $pids; do
    name=$(cat "/proc/$pid/comm") state=$(sed 's/.*) \(.\).*/\1/' "/proc/$pid/stat") && echo "$pid $state $name"
done 2>/dev/null
exit 1
"""


_ForWrapper: TypeAlias = Union[StartWrapper, StartWrappers, AskStatus, KillThroughWrapper]


@attrs.frozen
class Order:
    """A Salt function with its keyword arguments. They are never positional: Salt reads `A=b` there as a keyword."""

    function: str
    kwargs: Mapping[str, Any]


def new_ticket(now: datetime) -> str:
    """A job id of Salt's form with a random end, so that two are never alike. `now` is aware, in UTC."""
    return f"{now:%Y%m%d%H%M%S%f}_{secrets.token_hex(6)}"


def order(call: Call) -> Order:
    """What Salt is asked to do for `call`."""
    match call:
        case StartWrapper() | AskStatus() | KillThroughWrapper():
            return _wrapper(call)
        case StartWrappers():
            return _several(call)
        case StartPlain():
            # not an assignment before the command: only what a process starts with can be seen from outside
            shell = f'exec env {_MACHINE} "${{BASH:-/bin/sh}}" -c {_literal(shlex.quote(call.command))}'
            return _run_all(shell, rstrip=False, **_plain_options(call))
        case KillPlain():
            return _run_all(f"{_literal(shlex.join(kill_command(call)))} {_MACHINE}")
        case FindPlain():
            return Order("saltutil.find_job", {"jid": call.ticket})
        case Ping():
            return Order("test.ping", {})
        case _:
            assert_never(call)


def _wrapper(call: StartWrapper | AskStatus | KillThroughWrapper) -> Order:
    return _run_wrapper(call, [wrapper_env(call)], wrapper_env(call))


def _several(call: StartWrappers) -> Order:
    """What the orders have in common goes as the environment, the rest by stdin: no shell and no template sees it."""
    first, *others = call.orders.values()
    common = dict(set(first.items()).intersection(*(env.items() for env in others)))
    own = {name: dict(env.items() - common.items()) for name, env in call.orders.items()}
    return _run_wrapper(call, call.orders.values(), common, stdin=json.dumps(own), stdin_raw_newlines=True)


def _run_wrapper(call: _ForWrapper, orders: Iterable[Mapping[str, str]], env: Mapping[str, str], **more: Any) -> Order:
    """By way of env, whose 126, 127 and texts tell what is wrong with the file; shells differ in their words."""
    key = [_KEY] if any("SP_PROVE_MACHINE" in order for order in orders) else []
    words = [_MACHINE, *key, _literal(shlex.join(wrapper_command(call)))]
    return _run_all(f"exec env {' '.join(words)}", env=env, **more)


def plain_env(call: StartPlain) -> dict[str, str]:
    return {**call.env, JOB_MARK: call.job, RUN_MARK: call.run}


def wrapper_command(call: _ForWrapper) -> list[str]:
    """The wrapper's argv."""
    match call:
        case StartWrapper():
            return [call.path]
        case StartWrappers():
            return [call.path, "--orders"]
        case AskStatus():
            return [call.path, f"--attempt={call.attempt}", f"--status={call.run}"]
        case KillThroughWrapper():
            return [call.path, f"--attempt={call.attempt}", *_manner(call), f"--kill={call.run}"]
        case _:
            assert_never(call)


def _manner(call: KillThroughWrapper) -> list[str]:
    """Said only where it is asked for: a wrapper of before does not know these options."""
    signal = [] if call.signal is None else [f"--signal={call.signal}"]
    return signal + ([] if call.grace_s is None else [f"--grace={call.grace_s:g}"])


def wrapper_env(call: StartWrapper | AskStatus | KillThroughWrapper) -> dict[str, str]:
    """The wrapper's own environment, but for SP_MACHINE_ID."""
    if isinstance(call, StartWrapper):
        return dict(call.env)
    return {"SP_STATEDIR": call.statedir} if call.statedir else {}


def kill_command(call: KillPlain) -> list[str]:
    """An argv that ends the processes of a plain start, and prints `pid state name` of each that will not end.

    One more argument has to be added, `SP_MACHINE_ID=<id>`: several machines may share a host's process table.
    """
    signal, grace_ms = call.signal.removeprefix("SIG"), math.ceil(call.grace_s * 1000)
    return ["/bin/sh", "-c", _KILL_SCRIPT, "sh", signal, str(grace_ms), f"{RUN_MARK}={call.run}"]


def answer_to(ticket: str, jid: str, machine: str, returned: Mapping[str, Any]) -> Answer:
    """Read what a minion returned for `jid` as its answer to `ticket`, which may be one of several orders in that."""
    whole = answer(machine, returned)
    if jid != job_of(ticket) or jid == ticket:
        return whole
    for line in whole.text.splitlines():
        match _said(line):
            case {"order": str(name), "code": int(code), "text": str(text)} if place(jid, name) == ticket:
                return Answer(machine, code, text)
    return attrs.evolve(whole, code=UNTOLD)


def _said(line: str) -> object:
    """A line of a wrapper's about one order of several; what else stands there is none."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def answer(machine: str, returned: Mapping[str, Any]) -> Answer:
    """Read what a minion returned: an event's data or an entry of the job cache, which have the same keys.

    A string where a result belongs is Salt's own word that it could not do it.
    """
    value, code = returned.get("return"), _code(returned)
    match value:
        case {"retcode": int(own), "stdout": str(out)}:
            return _ran(machine, code, own, out)
        case str():
            return Answer(machine, codes.ERROR, _untrimmed(value))
        case _ if not value or value is True:  # a ping; find_job, and there is none
            return Answer(machine, code, "")
        case _:
            return Answer(machine, code, json.dumps(value, default=str, sort_keys=True))


def _ran(machine: str, code: int, own: int, output: str) -> Answer:
    """What cmd.run_all returned. Salt calls its own timeout a success of the function, and the command a failure."""
    if code == 0 and own != 0 and " : Timed out after " in output:
        return Answer(machine, codes.TIMED_OUT, "")
    return Answer(machine, _as_shell_code(own), _untrimmed(output))


def _code(returned: Mapping[str, Any]) -> int:
    code = returned.get("retcode")
    return int(code) if isinstance(code, int) else int(not returned.get("success", True))


def _as_shell_code(code: int) -> int:
    """Salt gives -N for a command that died of signal N; shells, and saltpeter, 128+N."""
    return 128 - code if code < 0 else int(code)


def _untrimmed(text: str) -> str:
    return TRIMMED_TEXT if text == TRIMMED else text


def _run_all(command: str, **options: Any) -> Order:
    return Order(
        "cmd.run_all",
        {"cmd": command, "template": "jinja", "redirect_stderr": True, "python_shell": True, **options},
    )


def _literal(text: str) -> str:
    """Whatever stands in `text` must not look like a template."""
    return text.replace("{", "{{ '{' }}")


def _plain_options(call: StartPlain) -> dict[str, Any]:
    options: dict[str, Any] = {"env": plain_env(call)}
    if call.user is not None:
        options["runas"] = call.user
    if call.cwd is not None:
        options["cwd"] = _literal(call.cwd)  # Salt takes it for a template too
    if call.timeout_s < math.inf:
        options["timeout"] = call.timeout_s
    return options
