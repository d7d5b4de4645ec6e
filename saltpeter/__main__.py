"""The program: `saltpeter`, or `python -m saltpeter`."""

import signal


def run() -> None:
    """As the command line says. Ctrl-C ends it quietly from the first moment on, also while it is being loaded."""
    theirs = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from saltpeter.cli import main  # noqa: PLC0415  here, not above: this takes a moment

    signal.signal(signal.SIGINT, theirs)
    main(prog_name="saltpeter")


if __name__ == "__main__":
    run()
