# mypy: allow-untyped-defs, allow-untyped-calls
"""The first lines of the wrapper's file: make sure of the Python, then go."""

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


def has(folder):
    """Does the archive hold modules that were compiled for this Python?"""
    from zipimport import ZipImportError, zipimporter

    try:
        return zipimporter(folder).find_spec("sp_wrapper") is not None
    except ZipImportError:
        return False


def main(file):
    if sys.version_info < OLDEST:
        run_elsewhere(file)
        sys.exit(
            "sp_wrapper: Python 3.10 or newer is needed; {0} is {1} and no newer one was found on this machine."
            " Install one, or Salt's own package, which brings one.".format(sys.executable, sys.version.split()[0])
        )
    # By its descriptor, because a reporter may be loaded long after the file was replaced by a newer version.
    archive = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    root = "/proc/self/fd/{0}".format(archive)
    compiled = "{0}/py{1}{2}".format(root, *sys.version_info)
    sys.path[0:1] = [compiled if has(compiled) else root + "/lib", root]
    from sp_wrapper.main import main as run

    sys.exit(run(sys.argv[1:], archive))


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[0]))
