"""The paper's balancer: locality where it is worth something (rule B1).

A program's later calls begin with what its earlier calls computed, and only its own
engine still holds that. For a short prompt this is worth little, and pinning it would
skew the load.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from autellix.balancers.least_loaded import least_loaded
from autellix.balancers.protocol import Choice, EngineView, Placing

if TYPE_CHECKING:
    from collections.abc import Sequence

_NS = 1_000_000_000


@attrs.frozen(kw_only=True)
class LocalityAware:
    """Cheap prompts go to the least loaded engine, dear ones to their program's.

    A dear call of a program without an engine, or whose engine is not eligible, goes to
    the least loaded, and that becomes the program's engine. A cheap call binds nothing.

    Attributes:
        recompute_s: A prompt is cheap when computing all of it takes no longer, by the
            cost model of the engine that would keep it. 0.16 s is the time that the
            paper's 2048 tokens take on its hardware.
        threshold_tokens: When given, a prompt of at most so many tokens is cheap, and
            ``recompute_s`` is not looked at.

    Source:
        arXiv 2502.13965, algorithm 2; there the threshold is 2048 tokens. We differ in
        the unit, and in rebinding a program whose engine cannot be chosen.
    """

    recompute_s: float = attrs.field(
        default=0.16,
        validator=attrs.validators.and_(
            attrs.validators.ge(0.0), attrs.validators.lt(math.inf)
        ),
    )
    threshold_tokens: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(0))
    )

    def choose(
        self, placing: Placing, engines: Sequence[EngineView], *, turn: int
    ) -> Choice:
        """Choose by what the prompt costs to compute, then by program or by load."""
        least = least_loaded(engines)
        bound = next((e for e in engines if e.name == placing.bound_engine), None)
        if self._is_cheap(placing.prompt_tokens, bound or least):
            return Choice(engine=least.name, binds=False)
        if bound is not None:
            return Choice(engine=bound.name, binds=False)
        return Choice(engine=least.name, binds=True)

    def _is_cheap(self, prompt_tokens: int, engine: EngineView) -> bool:
        if self.threshold_tokens is not None:
            return prompt_tokens <= self.threshold_tokens
        # Without the fixed time of a step: the call shares its steps with others.
        cost_ns = engine.costs.prefill_work_ns(0, prompt_tokens)
        return cost_ns <= round(self.recompute_s * _NS)
