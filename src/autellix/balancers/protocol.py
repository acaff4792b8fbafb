"""What a balancer sees and says (rules B1-B3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autellix.core.cost_model import CostModel


@attrs.frozen(kw_only=True)
class EngineView:
    """An engine as a balancer sees it: a snapshot at the instant of the choice."""

    name: str
    model: str
    calls: int
    """Its load: calls sent to it and not ended, counted by the runtime (rule B2)."""
    is_up: bool
    max_call_tokens: int
    """Most tokens of prompt and output of one call."""
    costs: CostModel


@attrs.frozen(kw_only=True)
class Placing:
    """The call to be placed."""

    prompt_tokens: int
    max_tokens: int
    bound_engine: str | None
    """The engine of its program, which may be none of the eligible ones."""


@attrs.frozen(kw_only=True)
class Choice:
    """Where the call goes."""

    engine: str
    binds: bool
    """Whether that becomes the engine of the program."""


class Balancer(Protocol):
    """Decides the engine of a call. Pure: same arguments, same choice; never awaits."""

    def choose(
        self, placing: Placing, engines: Sequence[EngineView], *, turn: int
    ) -> Choice:
        """Choose one of ``engines``.

        Args:
            placing: The call.
            engines: The eligible ones only (up, of the right model, large enough), at
                least one, always in the same order.
            turn: Choices made so far in this runtime.
        """
