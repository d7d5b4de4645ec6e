"""Fixtures that more than one part of the tests shares, and how the tests are spread over several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.helpers.daemon import wrapper_file
from tests.helpers.salt_lab import salt_lab

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.helpers.spread import Spread

__all__ = ["salt_lab", "wrapper_file"]


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.register_profile("without a clock", deadline=None)  # machines may be busy
    hypothesis.settings.load_profile("without a clock")
    # Once Salt is loaded, an import hook of its own makes every later import warn.
    config.addinivalue_line("filterwarnings", "ignore:NaclImporter:ImportWarning")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Spread:
    from tests.helpers.spread import Spread  # needs what only the whole of the tests needs

    return Spread(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes
        from tests.helpers.spread import begins

        items.sort(key=lambda item: begins(item.nodeid))
