"""How the tests are spread over several processes."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

# What shares a Salt master, a browser or a daemon stays in one process.
TOGETHER = {
    "salt": ("tests/salt/", "tests/faults/test_on_salt.py", "tests/launch/test_launcher_contract.py"),
    "web": ("tests/web/",),
    "cli": ("tests/cli/",),
}


def place(nodeid: str) -> str:
    """What the test belongs to; a test that belongs to nothing is a thing of its own."""
    return next((name for name, paths in TOGETHER.items() if nodeid.startswith(paths)), nodeid)


def begins(nodeid: str) -> int:
    """The order in which they begin: what belongs together first, for it takes longest."""
    names = list(TOGETHER)
    return names.index(name) if (name := place(nodeid)) in names else len(names)


class Spread(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives each process one of these after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return place(nodeid)
