"""The built file runs on whatever Python a machine has, or says what is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sp_wrapper
from saltpeter.wrapper_build import HEADER, BuildError, build
from sp_wrapper import wire
from sp_wrapper.codes import ERROR
from tests.wrapper.conftest import Machine
from tests.wrapper.daemon import Daemon

PYENV = sorted(str(path) for path in Path.home().glob(".pyenv/versions/*/bin"))
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
SEARCH = os.pathsep.join([*PYENV, os.environ["PATH"]])


def python(version: str) -> str:
    found = shutil.which(f"python{version}", path=SEARCH)
    if found is None or subprocess.run([found, "-c", ""], check=False).returncode:
        pytest.skip(f"no python{version} here")
    return found


@pytest.mark.parametrize("version", SUPPORTED)
async def test_it_runs_on_every_supported_python(
    tmp_path: Path, wrapper_file: Path, daemon: Daemon, version: str
) -> None:
    command = (python(version), "-I", "-S", str(wrapper_file))
    machine = Machine(tmp_path / "state", command, f"ws://127.0.0.1:{daemon.port}/")
    try:
        assert await machine.start("job_1", "echo hello") == (0, "sp_wrapper 1.0.0 started job_1\n")
        assert (await daemon.end_of("job_1")).retcode == 0
        assert daemon.output["job_1"] == b"hello\n"
        assert daemon.of("job_1", wire.Start)
    finally:
        machine.end_everything()


@pytest.mark.parametrize("version", ["3.8", "3.6", "2.7"])
def test_an_old_python_goes_on_with_a_newer_one(wrapper_file: Path, version: str) -> None:
    old, new = python(version), Path(python("3.11")).parent
    done = subprocess.run(
        [old, wrapper_file, "--version"], env={"PATH": str(new)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "sp_wrapper 1.0.0\n")


@pytest.mark.parametrize("version", ["3.8", "3.6", "2.7"])
def test_an_old_python_alone_says_so(version: str) -> None:
    """Asked of the first lines only, with nowhere else to look: this machine may have a newer Python somewhere."""
    old, boot = python(version), Path(sp_wrapper.__file__).with_name("boot.py")
    alone = f"import imp; boot = imp.load_source('boot', {str(boot)!r}); boot.CANDIDATES = ('none',); boot.main('file')"
    done = subprocess.run([old, "-W", "ignore", "-c", alone], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("sp_wrapper: Python 3.10 or newer is needed; ")
    assert f" is {version}." in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_any_python_the_shell_says_so(tmp_path: Path) -> None:
    script = tmp_path / "header"
    script.write_text(HEADER.replace(" /", " /nowhere/"))
    done = subprocess.run(["/bin/sh", script], env={"PATH": str(tmp_path)}, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"sp_wrapper: no python3 was found on this machine")


def test_the_same_sources_give_the_same_file(wrapper_file: Path, tmp_path: Path) -> None:
    build(tmp_path / "again.py")
    assert (tmp_path / "again.py").read_bytes() == wrapper_file.read_bytes()


def test_connecting_looks_up_no_versions_of_what_is_installed(wrapper_file: Path) -> None:
    """That took a tenth of the time until the wrapper was connected."""
    code = (
        f"import sys; sys.path.insert(0, {str(wrapper_file / 'lib')!r}); import sp_wrapper.link;"
        " assert 'importlib.metadata' not in sys.modules; from importlib.metadata import files"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_little_is_loaded_before_the_command_starts(tmp_path: Path, wrapper_file: Path) -> None:
    """Each of these has taken milliseconds from the start of every command. An order that is none comes as far."""
    shim = tmp_path / "python3"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -X importtime "$@"\n')
    shim.chmod(0o755)
    done = subprocess.run([wrapper_file], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == ERROR
    assert "sp_wrapper.main" in loaded
    assert not loaded & {"runpy", "zlib", "enum", "signal", "ctypes", "re", "json", "typing", "socket", "subprocess"}


@pytest.mark.parametrize("version", SUPPORTED)
def test_signals_and_orphans_need_no_classes_around_them(wrapper_file: Path, version: str) -> None:
    code = (
        f"import os, sys; sys.path.insert(0, {str(wrapper_file / 'lib')!r}); from sp_wrapper import kernel\n"
        "kernel.adopt_orphans()\n"
        "if os.fork() == 0: os.fork(); os._exit(0)\n"
        "os.wait(); os.wait()\n"  # the second is for a grandchild
        "assert not {'ctypes', 'enum'} & set(sys.modules)\n"
        "import signal; assert kernel.SIGNALS == signal.Signals.__members__\n"
    )
    subprocess.run([python(version), "-I", "-S", "-c", code], check=True)


def test_what_is_in_it(wrapper_file: Path) -> None:
    names = zipfile.ZipFile(wrapper_file).namelist()
    compiled = "py{}{}".format(*sys.version_info)
    assert {"__main__.py", "lib/sp_wrapper/main.py", "lib/trio/__init__.py", f"{compiled}/trio/__init__.pyc"} <= set(
        names
    )
    assert {name.split("/")[1] for name in names if name.startswith("licenses/")} >= {"trio", "h11", "wsproto", "attrs"}
    assert not [name for name in names if "tests" in name]
    assert os.access(wrapper_file, os.X_OK)


def test_a_python_that_does_not_work_is_told(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="could not compile the modules"):
        build(tmp_path / "file.py", pythons=["/bin/false"])
    assert not (tmp_path / "file.py").exists()
