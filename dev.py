"""Everything a checkout needs, on a machine with Python 3.10 or newer and nothing else.

    python3 dev.py lab      try saltpeter out: a private Salt master, three minions, and jobs running on them
    python3 dev.py test     check style and types, then run all the tests
    python3 dev.py spread   the same, with two tests at a time: for a machine that has nothing else to do

All set up .venv first, from requirements.lock; what follows the word goes to the command (`dev.py test -k kill`).
`python3 dev.py setup` does only that; `python3 dev.py lock` writes requirements.lock anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
LOCK = ROOT / "requirements.lock"
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))  # for the tests of the web page
STAMP = VENV / "installed-from"
FUZZER = "atheris==3.0.0"
OLDEST = (3, 10)
ADVISORIES_S = 120
# Tests wait more than they compute. tests/helpers/spread.py says which stay together.
SPREAD = ("--numprocesses", "2", "--dist", "loadscope", "--no-loadscope-reorder")


def main() -> None:
    if sys.version_info < OLDEST:
        sys.exit(f"dev.py needs Python 3.10 or newer; this is {sys.version.split()[0]} ({sys.executable})")
    command = COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is None:
        sys.exit(__doc__)
    os.chdir(ROOT)
    set_up()
    command(sys.argv[2:])


def set_up() -> None:
    """Make .venv what requirements.lock and pyproject.toml say; does nothing when it is."""
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    say("setting up .venv (some minutes the first time: Salt is built from its sources)")
    if not (BIN / "pip").exists():
        make_venv()
    run(str(BIN / "pip"), "install", "--quiet", "--disable-pip-version-check", "--requirement", str(LOCK))
    run(str(BIN / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--editable", ".")
    install_fuzzer()
    STAMP.write_text(wanted)


def install_fuzzer() -> None:
    """It has no wheel for every Python, and takes long to build: where there is none, some tests are left out."""
    pip = (str(BIN / "pip"), "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", FUZZER)
    if subprocess.run(pip, check=False).returncode:  # noqa: S603  a tool of .venv
        say(f"NO {FUZZER} FOR THIS PYTHON: fuzzing by coverage is left out of the tests.")


def make_venv() -> None:
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False)  # noqa: S603  a tool of .venv
    if made.returncode:
        sys.exit("dev.py: the venv module of this Python does not work; on Debian: apt-get install python3-venv")


def fingerprint() -> str:
    """Changes when what is installed has to: with the lock, the metadata, or the wrapper's sources."""
    digest = hashlib.sha256(sys.version.encode())
    files = [LOCK, ROOT / "pyproject.toml", ROOT / "hatch_build.py", *sorted((ROOT / "wrapper").rglob("*.py"))]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def lab(args: list[str]) -> None:
    os.execv(str(BIN / "saltpeter"), ["saltpeter", "lab", *args])  # noqa: S606  likewise


def test(args: list[str]) -> None:
    check_and_run([], args)


def spread(args: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="sp") as place:  # a short one, for sockets have their names below it
        check_and_run([*SPREAD, f"--basetemp={place}/t"], args)


def check_and_run(how: Sequence[str], args: list[str]) -> None:
    if not args:
        run(str(BIN / "ruff"), "check", ".")
        run(str(BIN / "ruff"), "format", "--check", ".")
        with ThreadPoolExecutor() as pool:  # one computes while another waits for the network
            for check in [pool.submit(each) for each in (check_types, look_for_weaknesses, look_for_advisories)]:
                check.result()
    need_browser()
    run(str(BIN / "pytest"), *how, *args)


def check_types() -> None:
    run(str(BIN / "mypy"))


def look_for_weaknesses() -> None:
    run(str(BIN / "bandit"), "--quiet", "--recursive", "--configfile", "pyproject.toml", "saltpeter", "wrapper")


def look_for_advisories() -> None:
    """Fail where a library of the lock has a known weakness; say so where nobody could be asked."""
    asked = (str(BIN / "pip-audit"), "--requirement", str(LOCK), "--disable-pip", "--no-deps", "--format", "json")
    say("pip-audit")
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=ADVISORIES_S)  # noqa: S603, PLW1510  a tool of .venv
    except subprocess.TimeoutExpired:
        say(f"NO ADVISORIES: nobody answered pip-audit within {ADVISORIES_S} seconds")
        return
    if not answer.stdout.startswith("{"):
        say(f"NO ADVISORIES: pip-audit could not ask: {answer.stderr.strip()[-300:]}")
        return
    libraries = json.loads(answer.stdout)["dependencies"]
    weak = [f"{each['name']} {each['version']}: {bad['id']}" for each in libraries for bad in each.get("vulns", ())]
    unknown = sum("skip_reason" in each for each in libraries)
    if unknown:
        say(f"NO ADVISORIES for {unknown} of {len(libraries)} libraries: their data cannot be had from here")
    if weak:
        sys.exit("libraries with known weaknesses, to be renewed by `python3 dev.py lock`:\n" + "\n".join(weak))


def need_browser() -> None:
    """Install Debian's Chromium where it is missing and we may; else say what to do: without it, tests fail."""
    if CHROMIUM.exists():
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-qq", "--yes", "--no-install-recommends", "chromium")
    else:
        say(f"NO BROWSER at {CHROMIUM}: the tests of the web page will fail.")
        say("On Debian: `sudo apt-get install chromium`. Elsewhere: CHROMIUM=/path/to/chrome python3 dev.py test")


def lock(args: list[str]) -> None:
    """Resolve for every Python from 3.10 on."""
    run(str(BIN / "pip"), "install", "--quiet", "uv")
    resolve = ("pip", "compile", "--universal", "--python-version", "3.10", "--extra", "dev", "--no-header", "--quiet")
    run(str(BIN / "uv"), *resolve, "pyproject.toml", "--output-file", str(LOCK), *args)


def setup(args: list[str]) -> None:
    """Nothing more than what every command does first."""


def run(*command: str) -> None:
    say(" ".join(Path(word).name if word.startswith(str(BIN)) else word for word in command))
    finished = subprocess.run(command, check=False)  # noqa: S603  a tool of .venv
    if finished.returncode:
        sys.exit(finished.returncode)


def say(text: str) -> None:
    print(f"+ {text}", flush=True)  # noqa: T201


COMMANDS: Mapping[str, Callable[[list[str]], None]] = {
    "lab": lab,
    "test": test,
    "spread": spread,
    "setup": setup,
    "lock": lock,
}

if __name__ == "__main__":
    main()
