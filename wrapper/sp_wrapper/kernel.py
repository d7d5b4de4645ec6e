"""Signals and prctl as the interpreter itself has them: `signal` and `ctypes` make classes of them first, which took a
sixth of the time to the command."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    try:
        import _signal as signal
    except ImportError:  # another interpreter
        import signal

__all__ = ["SIGNALS", "adopt_orphans", "signal"]

PR_SET_CHILD_SUBREAPER = 36

SIGNALS = {
    name: int(number) for name, number in vars(signal).items() if name.startswith("SIG") and not name.startswith("SIG_")
}


def adopt_orphans() -> None:
    """Daemonised children of the command become ours, so that a kill finds them."""
    arguments = (PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        from _ctypes import call_cdeclfunction, dlopen, dlsym  # noqa: PLC0415 - once only
    except ImportError:
        import ctypes  # noqa: PLC0415 - as above

        ctypes.CDLL(None).prctl(*arguments)
    else:
        call_cdeclfunction(dlsym(dlopen(None, 0), "prctl"), arguments)  # type: ignore[arg-type]
