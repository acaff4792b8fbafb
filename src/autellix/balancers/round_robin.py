"""Every engine in turn: the balancer to compare others with (rule B2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.balancers.protocol import Choice, EngineView, Placing

if TYPE_CHECKING:
    from collections.abc import Sequence


@attrs.frozen(kw_only=True)
class RoundRobin:
    """Sends each call to the next engine, whatever its load."""

    def choose(
        self, placing: Placing, engines: Sequence[EngineView], *, turn: int
    ) -> Choice:
        """Choose by ``turn``."""
        return Choice(engine=engines[turn % len(engines)].name, binds=False)
