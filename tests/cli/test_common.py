"""How a command of ours ends when something is wrong."""

from __future__ import annotations

import pytest
import trio
from exceptiongroup import ExceptionGroup

from saltpeter.cli.common import EXIT_FAILED, plain_errors
from saltpeter.errors import ConfigError, SaltpeterError, StoreError


def ending(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code, and what stands on stderr, of a command that ends with `error`."""
    with pytest.raises(SystemExit) as end, plain_errors():
        raise error
    return end.value.code, capsys.readouterr().err


def test_an_error_of_ours_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(ConfigError("/jobs: missing"), capsys) == (EXIT_FAILED, "saltpeter: /jobs: missing\n")


def test_so_it_is_when_it_comes_out_of_a_nursery(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(error: SaltpeterError) -> None:
        async with trio.open_nursery(), trio.open_nursery():
            raise error

    with pytest.raises(SystemExit) as end, plain_errors():
        trio.run(fail, StoreError("/state is in use by another saltpeter"))
    assert end.value.code == EXIT_FAILED
    assert capsys.readouterr().err == "saltpeter: /state is in use by another saltpeter\n"


def test_several_are_all_told(capsys: pytest.CaptureFixture[str]) -> None:
    both = ExceptionGroup("", [StoreError("one"), ExceptionGroup("", [ConfigError("two")])])
    assert ending(both, capsys) == (EXIT_FAILED, "saltpeter: one; two\n")


def test_ctrl_c_needs_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(KeyboardInterrupt(), capsys) == (130, "")


def test_what_is_nobody_s_fault_but_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), plain_errors():
        raise ZeroDivisionError
    with pytest.raises(SystemExit) as end, plain_errors():
        raise SystemExit(3)
    assert end.value.code == 3
