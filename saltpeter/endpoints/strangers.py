"""Connections of peers that have not shown yet who they are: there are only so many of them. No IO."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

T = TypeVar("T")

MOST = 8192  # some 30 KiB each; a fleet that comes back at once is not cut off


@attrs.define(eq=False)
class Strangers(Generic[T]):
    """When there are too many, the one that has waited longest goes: in its own network, which may have half of them.

    Who means well shows who they are within a moment; who only takes up room waits.
    """

    most: int = MOST
    _networks: dict[str, dict[T, None]] = attrs.field(factory=dict, init=False)
    _home: dict[T, str] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._home)

    def enter(self, who: T, network: str) -> T | None:
        """Somebody came; returns who has to go for that, and is forgotten."""
        self._networks.setdefault(network, {})[who] = None
        self._home[who] = network
        if len(self._networks[network]) > max(self.most // 2, 1):
            oldest = next(iter(self._networks[network]))
        elif len(self._home) > self.most:
            oldest = next(iter(self._home))
        else:
            return None
        self.leave(oldest)
        return oldest

    def leave(self, who: T) -> None:
        """They went, or are known now. May be said more than once."""
        network = self._home.pop(who, None)
        if network is not None:
            del self._networks[network][who]
            if not self._networks[network]:
                del self._networks[network]
