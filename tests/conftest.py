"""Fixtures that more than one part of the tests shares."""

import pytest

from tests.helpers.daemon import wrapper_file
from tests.helpers.salt_lab import salt_lab

__all__ = ["salt_lab", "wrapper_file"]


def pytest_configure(config: pytest.Config) -> None:
    # Once Salt is loaded, an import hook of its own makes every later import warn.
    config.addinivalue_line("filterwarnings", "ignore:NaclImporter:ImportWarning")
