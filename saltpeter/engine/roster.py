"""Who may speak for what: every execution that a wrapper may still have a word about."""

from __future__ import annotations

from collections import OrderedDict

import attrs

from saltpeter.domain.state import ExecutionId
from saltpeter.engine.execution import BadToken, Execution, UnknownExecution, token_matches

_KEEP_ENDED = 20_000  # executions that a wrapper may come back to, with its late word or one more time after its last


@attrs.define
class Executions:
    """The living executions and the latest ended ones."""

    allow_legacy: bool = False  # wrappers of 0.9.x show no token
    _living: dict[ExecutionId, Execution] = attrs.field(factory=dict, init=False)
    _ended: OrderedDict[ExecutionId, Execution] = attrs.field(factory=OrderedDict, init=False)

    def add(self, execution: Execution) -> None:
        self._living[execution.id] = execution

    def retire(self, execution: Execution) -> None:
        self._ended[execution.id] = self._living.pop(execution.id)
        if len(self._ended) > _KEEP_ENDED:
            self._ended.popitem(last=False)

    def get(self, execution: ExecutionId) -> Execution:
        """Raises UnknownExecution."""
        found = self._living.get(execution) or self._ended.get(execution)
        if found is None:
            raise UnknownExecution(f"no execution {execution} is known")
        return found

    async def find(self, instance: str, machine: str, attempt: int, token: str) -> Execution:
        """Raises UnknownExecution, or BadToken where the token is not the run's."""
        execution = self.get(ExecutionId(instance, machine, attempt))
        if not (token_matches(execution.token, token) or (self.allow_legacy and not token)):
            raise BadToken(f"the token is not that of {instance}")
        return execution
