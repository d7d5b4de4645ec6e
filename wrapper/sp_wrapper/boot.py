# mypy: allow-untyped-defs, allow-untyped-calls
"""What the wrapper's file runs first: make sure of the Python, then go."""

import os
import sys

OLDEST = (3, 10)
CANDIDATES = (
    "python3.13",
    "python3.12",
    "python3.11",
    "python3.10",
    "python3.14",
    "python3",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "/opt/saltstack/salt/bin/python3",
)


def paths(name):
    """Where `name` may lie."""
    if "/" in name:
        return [name]
    return [os.path.join(folder, name) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)]


def works(path):
    """Is there a Python at `path` that is new enough?"""
    import subprocess

    if not os.access(path, os.X_OK):
        return False
    with open(os.devnull, "r+b") as null:
        check = "import sys; sys.exit(sys.version_info < {0!r})".format(OLDEST)
        return subprocess.call([path, "-I", "-S", "-c", check], stdin=null, stdout=null, stderr=null) == 0


def run_elsewhere(file):
    """Go on with the first Python that is new enough; return when there is none."""
    for name in CANDIDATES:
        for path in paths(name):
            if works(path):
                os.execv(path, [path, "-I", "-S", file] + sys.argv[1:])


def main(archive):
    """`archive` is the descriptor that we were loaded from."""
    if sys.version_info < OLDEST:
        run_elsewhere(os.path.abspath(sys.argv[0]))
        sys.exit(
            "sp_wrapper: Python 3.10 or newer is needed; {0} is {1} and no newer one was found on this machine."
            " Install one, or Salt's own package, which brings one.".format(sys.executable, sys.version.split()[0])
        )
    from sp_wrapper.main import main as run

    sys.exit(run(sys.argv[1:], archive))
