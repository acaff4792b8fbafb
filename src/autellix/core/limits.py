"""Sizes of an engine's batch, and how its rounds decide."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class StepLimits:
    """Sizes of an engine's batch, and how its rounds decide.

    Attributes:
        slots: Most calls in a step.
        token_budget: Most tokens computed in a step; at least ``slots``.
        lookahead: Most waiting calls that do not fit which a round tries (S4).
        hysteresis_levels: How much worse a call must be to be preempted (S2).
        reserve_after_ns: How long a call is passed over before room is kept for it.
        round_steps: Steps a decision holds for (S6).
    """

    slots: int = attrs.field(validator=attrs.validators.ge(1))
    token_budget: int = attrs.field()
    lookahead: int = attrs.field(default=16, validator=attrs.validators.ge(1))
    hysteresis_levels: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    reserve_after_ns: int = attrs.field(
        default=2_000_000_000, validator=attrs.validators.ge(0)
    )
    round_steps: int = attrs.field(default=1, validator=attrs.validators.ge(1))

    @token_budget.validator
    def _check_budget(self, _: object, value: int) -> None:
        if value < self.slots:
            raise ValueError(f"token_budget {value} is below slots {self.slots}")
