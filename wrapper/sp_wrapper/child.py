"""Starting the command: its own session, its user, nothing inherited that it should not have."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Mapping

from sp_wrapper.kernel import signal
from sp_wrapper.order import FOR_COMMAND, Order

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would delay the command
    from typing import NoReturn

SHELL = "/bin/sh"


class StartError(Exception):
    """The command could not be started; the text is for the operator."""


def start(order: Order, environ: Mapping[str, str]) -> tuple[int, int]:
    """Start the command. Answers its pid and the end of the pipe that it writes to. Raises StartError.

    Returns when the shell is running, so that every failure on the way to it can be told.
    """
    user = _user(order)
    output, its_output = os.pipe()
    failure, its_failure = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(order, user, command_environ(order, environ, user), its_output, its_failure)
    os.close(its_output)
    os.close(its_failure)
    with open(failure, "rb") as said:
        text = said.read()  # the pipe closes by itself when the shell starts
    if text:
        os.waitpid(pid, 0)
        os.close(output)
        raise StartError(text.decode(errors="replace"))
    return pid, output


def command_environ(order: Order, environ: Mapping[str, str], user: pwd.struct_passwd | None) -> dict[str, str]:
    """What the command sees: all but the wrapper's own variables, and the user's own few."""
    env = {key: value for key, value in environ.items() if not key.startswith("SP_") or key in FOR_COMMAND}
    env |= {"SP_JOB_NAME": order.job, "SP_JOB_INSTANCE": order.instance}
    if user is not None:
        env |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell or SHELL}
    return env


def _user(order: Order) -> pwd.struct_passwd | None:
    if not order.user:
        return None
    try:
        user = pwd.getpwnam(order.user)
    except KeyError:
        raise StartError(f"user {order.user!r} does not exist on this machine") from None
    if os.geteuid() not in (0, user.pw_uid):
        raise StartError(f"only root can run a command as {order.user!r}; the wrapper runs as uid {os.geteuid()}")
    return user


def _become(
    order: Order, user: pwd.struct_passwd | None, env: Mapping[str, str], output: int, failure: int
) -> NoReturn:
    """In the new process: turn into the command, or say in one line why not."""
    try:
        os.setsid()
        _restore_signals()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        if user is not None:
            _drop_privileges(user)
        _enter(order, user)
        os.execve(SHELL, [SHELL, "-c", order.command], dict(env))  # noqa: S606 - the shell is what was asked for
    except (OSError, StartError) as exc:
        with contextlib.suppress(OSError):
            os.write(failure, str(exc).encode(errors="replace")[:4000])
    finally:
        os._exit(255)


def _restore_signals() -> None:
    """Python ignores SIGPIPE, and whoever started us may ignore others; ignoring is inherited."""
    for signum in signal.valid_signals():
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _drop_privileges(user: pwd.struct_passwd) -> None:
    """Groups first, the uid last: after that nothing can be changed any more."""
    if os.geteuid() == 0:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        if set(os.getgroups()) != set(os.getgrouplist(user.pw_name, user.pw_gid)):
            raise StartError(f"could not take the groups of user {user.pw_name!r}")
    if os.getresuid() != (user.pw_uid,) * 3 or os.getresgid() != (user.pw_gid,) * 3:
        raise StartError(f"could not become user {user.pw_name!r}")
    if user.pw_uid != 0 and _can_be_root_again():
        raise StartError(f"could not become user {user.pw_name!r} for good")


def _can_be_root_again() -> bool:
    try:
        os.setuid(0)
    except PermissionError:
        return False
    return True


def _enter(order: Order, user: pwd.struct_passwd | None) -> None:
    """Go to the working directory, as the user, who must be allowed there. Without one: home, as cron does it."""
    if order.cwd:
        try:
            os.chdir(order.cwd)
        except OSError as exc:
            raise StartError(f"the working directory {order.cwd!r} cannot be entered: {exc.strerror}") from exc
    elif user is not None:
        try:
            os.chdir(user.pw_dir)
        except OSError:
            os.chdir("/")
