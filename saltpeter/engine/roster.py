"""The executions that this daemon holds in memory: the living, and the latest ended ones."""

from __future__ import annotations

from collections import OrderedDict

import attrs

from saltpeter.domain.events import ExecutionId
from saltpeter.engine.execution import Execution, UnknownExecution

_KEEP_ENDED = 20_000  # which a wrapper may come back to, with its late word or one more time after its last


@attrs.define
class Executions:
    _living: dict[ExecutionId, Execution] = attrs.field(factory=dict, init=False)
    _ended: OrderedDict[ExecutionId, Execution] = attrs.field(factory=OrderedDict, init=False)

    def add(self, execution: Execution) -> None:
        self._living[execution.id] = execution

    def retire(self, execution: Execution) -> None:
        """It has ended."""
        self.remember(self._living.pop(execution.id))

    def remember(self, execution: Execution) -> None:
        """Keep an ended one for a while."""
        self._ended[execution.id] = execution
        if len(self._ended) > _KEEP_ENDED:
            self._ended.popitem(last=False)

    def find(self, execution: ExecutionId) -> Execution | None:
        return self._living.get(execution) or self._ended.get(execution)

    def get(self, execution: ExecutionId) -> Execution:
        """Raises UnknownExecution."""
        found = self.find(execution)
        if found is None:
            raise UnknownExecution(f"no execution {execution} is known")
        return found
