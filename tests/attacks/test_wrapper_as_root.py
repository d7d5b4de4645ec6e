"""The wrapper has root's rights, and everybody else on the machine may have laid something in its way."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import attrs
import pytest

from sp_wrapper import journal, state
from sp_wrapper.order import Order, parse
from tests.wrapper.conftest import Machine
from tests.wrapper.daemon import Daemon

ME = "id -u; id -g; id -G | tr ' ' '\\n' | sort -n | xargs; echo $HOME; grep -E '^Cap(Eff|Prm|Inh)' /proc/self/status"
NOBODY_ELSE = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="ONLY ROOT CAN CHANGE THE USER: run the tests as root, too")


def lines(daemon: Daemon, run: str) -> list[str]:
    return daemon.output[run].decode().splitlines()


async def test_root_stays_root(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", ME, SP_USER="root")
    assert (await daemon.end_of("job_1")).retcode == 0
    assert lines(daemon, "job_1")[:2] == ["0", "0"]


async def test_nobody_has_nothing_of_root(machine: Machine, daemon: Daemon) -> None:
    await machine.start("job_1", ME, SP_USER="nobody")
    assert (await daemon.end_of("job_1")).retcode == 0
    (
        uid,
        gid,
        groups,
        *_,
    ) = lines(daemon, "job_1")
    assert (int(uid), groups) == (NOBODY_ELSE, gid)
    capabilities = [line.split()[1] for line in lines(daemon, "job_1")[4:]]
    assert capabilities
    assert set(capabilities) == {"0" * 16}


async def test_a_user_has_its_own_groups(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    """In a mount namespace with users of our own, which need not exist on this machine."""
    binds = users(tmp_path)
    if not can_mount(binds):
        pytest.skip("NO MOUNT NAMESPACES HERE: run the tests where root may unshare")
    there = attrs.evolve(machine, command=("unshare", "-m", "sh", "-c", f'{binds} && exec "$0"', *machine.command))
    await there.start("job_1", ME, SP_USER="sp-ann")
    assert (await daemon.end_of("job_1")).retcode == 0
    assert lines(daemon, "job_1")[:4] == ["54321", "54321", "54321 54322 54323", "/home/sp-ann"]


def users(folder: Path) -> str:
    """What to run, so that there is a user sp-ann with groups."""
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + "sp-ann:x:54321:54321::/home/sp-ann:/bin/sh\n")
    groups = "sp-ann:x:54321:\nsp-web:x:54322:sp-ann\nsp-db:x:54323:sp-ann,sp-bob\nsp-adm:x:54324:sp-bob\n"
    (folder / "group").write_text(Path("/etc/group").read_text() + groups)
    return " && ".join(f"mount --bind {folder / name} /etc/{name}" for name in ("passwd", "group"))


def can_mount(binds: str) -> bool:
    return subprocess.run(["unshare", "-m", "sh", "-c", binds], capture_output=True, check=False).returncode == 0


async def test_a_user_that_does_not_exist_runs_nothing(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    for number, user in enumerate(("no-such-user", "0", "../root", "root\n", "")):
        run = f"job_{number}"
        await machine.start(run, f"touch {tmp_path / 'ran'}", SP_USER=user or "$(id)")
        end = await daemon.end_of(run)
        assert (end.retcode, end.outcome) == (255, "error")
        assert "does not exist on this machine" in end.error
    assert not (tmp_path / "ran").exists()


async def test_a_user_gets_neither_descriptors_nor_the_token(machine: Machine, daemon: Daemon) -> None:
    look = "env | grep -o '^SP_[A-Z_]*' | sort; for fd in /proc/$$/fd/*; do readlink $fd; done; env"
    await machine.start("job_1", look, SP_USER="nobody", SP_TOKEN="the-run's-token", SP_SECRET="given")
    assert (await daemon.end_of("job_1")).retcode == 0
    names, null, out, err, *rest = lines(daemon, "job_1")[0:2], *lines(daemon, "job_1")[2:]
    assert (names, null) == (["SP_JOB_INSTANCE", "SP_JOB_NAME"], "/dev/null")
    assert out == err
    assert out.startswith("pipe:")
    assert "=" in rest[0], "there is no fourth descriptor"
    assert "the-run's-token" not in daemon.output["job_1"].decode()


async def test_a_user_cannot_look_into_the_state_directory(machine: Machine, daemon: Daemon) -> None:
    """The order holds the run's token."""
    await machine.start("job_1", f"cat {machine.statedir}/runs/*/order; ls {machine.statedir}", SP_USER="nobody")
    assert (await daemon.end_of("job_1")).retcode != 0
    assert "Permission denied" in daemon.output["job_1"].decode()


# --- what others laid in its way -----------------------------------------------------------------


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder that somebody else owns."""
    tmp_path.chmod(0o755)
    (folder := tmp_path / "theirs").mkdir()
    os.chown(folder, NOBODY_ELSE, NOBODY_ELSE)
    return folder


@pytest.mark.parametrize("kind", ["a link", "theirs", "in theirs", "in a folder for everybody", "a file"])
async def test_a_state_directory_that_others_could_change_is_not_used(
    kind: str, machine: Machine, tmp_path: Path, trap: Path
) -> None:
    there = attrs.evolve(machine, statedir=unsafe(kind, tmp_path, trap))
    code, said = await there.start("job_1", f"touch {tmp_path / 'ran'}")
    assert (code, "the state directory" in said) == (255, True)
    assert not (tmp_path / "ran").exists()


def unsafe(kind: str, folder: Path, trap: Path) -> Path:
    """A place for a state directory that is none."""
    match kind:
        case "a link":
            (folder / "link").symlink_to(trap)
            return folder / "link"
        case "theirs":
            return trap
        case "in theirs":
            return trap / "state"
        case "in a folder for everybody":
            (folder / "public").mkdir()
            (folder / "public").chmod(0o777)
            return folder / "public" / "state"
        case _:
            (folder / "file").touch()
            return folder / "file"


async def test_one_in_a_sticky_folder_is_as_good_as_any(machine: Machine, daemon: Daemon, tmp_path: Path) -> None:
    """As /tmp is: there nobody can take away what is another's."""
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    there = attrs.evolve(machine, statedir=tmp_path / "sticky" / "new" / "state")
    assert (await there.start("job_1", "true"))[0] == 0
    await daemon.end_of("job_1")
    assert oct((tmp_path / "sticky" / "new").stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "theirs"])
def test_a_log_that_others_have_laid_there_is_not_written(kind: str, tmp_path: Path, trap: Path) -> None:
    log, precious = trap / journal.FILE_NAME, tmp_path / "precious"
    precious.write_text("as it was")
    if kind == "link":
        log.symlink_to(precious)
    elif kind == "hard link":
        os.link(precious, log)
    elif kind == "pipe":
        os.mkfifo(log)
    else:
        log.touch()
        os.chown(log, NOBODY_ELSE, NOBODY_ELSE)
    journal.Journal(order(SP_WRAPPER_LOGDIR=str(trap))).note("a line")
    assert precious.read_text() == "as it was"
    assert kind != "theirs" or not log.read_text()


def test_who_changes_the_log_while_it_is_written_gains_nothing(tmp_path: Path, trap: Path) -> None:
    """Links come and go under its name as fast as they can: no moment is the right one."""
    log, precious, over = trap / journal.FILE_NAME, tmp_path / "precious", threading.Event()
    precious.write_text("as it was")

    def change() -> None:
        draft = trap / "draft"
        while not over.is_set():
            draft.symlink_to(precious)
            draft.replace(log)
            draft.touch()
            draft.replace(log)
            log.unlink()

    attacker = threading.Thread(target=change)
    attacker.start()
    try:
        writer = journal.Journal(order(SP_WRAPPER_LOGDIR=str(trap)))
        for number in range(3000):
            writer.note(f"line {number}")
    finally:
        over.set()
        attacker.join()
    assert precious.read_text() == "as it was"


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
async def test_a_lock_file_that_is_something_else_is_left_alone(
    kind: str, machine: Machine, tmp_path: Path, trap: Path
) -> None:
    lock, precious = trap / "lock", tmp_path / "precious"
    precious.write_text("as it was")
    if kind == "link":
        lock.symlink_to(precious)
    elif kind == "hard link":
        os.link(precious, lock)
    else:
        os.mkfifo(lock)
    code, said = await machine.start("job_1", f"touch {tmp_path / 'ran'}", SP_LOCKFILE=str(lock))
    assert (code, "could not be started" in said) == (255, True)
    assert precious.read_text() == "as it was"
    assert not (tmp_path / "ran").exists()


def test_files_of_the_state_are_not_reached_through_links(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    for name in ("order", "order.new"):
        (tmp_path / name).symlink_to(precious)
    with pytest.raises(OSError, match="symbolic"):
        state.write(str(tmp_path / "order"), b"x")
    with pytest.raises(OSError, match="symbolic"):
        state.read(str(tmp_path / "order"))
    assert precious.read_text() == "as it was"


def order(**more: str) -> Order:
    env = {"SP_WEBSOCKET_URL": "ws://x/", "SP_JOB_NAME": "j", "SP_JOB_INSTANCE": "j_1", "SP_MACHINE_ID": "m"}
    return parse({**env, "SP_COMMAND": "true", **more})
