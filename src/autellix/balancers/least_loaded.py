"""Least calls first: spreads load, and takes no notice of caches (rule B2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.balancers.protocol import Choice, EngineView, Placing

if TYPE_CHECKING:
    from collections.abc import Sequence


@attrs.frozen(kw_only=True)
class LeastLoaded:
    """Sends each call to the engine with the fewest calls sent and not ended."""

    def choose(
        self, placing: Placing, engines: Sequence[EngineView], *, turn: int
    ) -> Choice:
        """Choose the least loaded; the first of equals."""
        return Choice(engine=least_loaded(engines).name, binds=False)


def least_loaded(engines: Sequence[EngineView]) -> EngineView:
    """Return the engine with the fewest calls, the first of equals."""
    return min(engines, key=lambda engine: engine.calls)
