"""How long a program may wait for what it ran, unless a policy is told otherwise.

The paper does not publish its beta. Where programs queue at all they wait four to ten
times as long as they run (its figure 5, load 0.9: chat 4, ReAct 7, tree search 10), so
a smaller beta would promote the common program. Eight leaves promotion to those that
are worse off than most, and still bounds their wait; past saturation, where most come
to be, a ninth of what runs is theirs at a time (``core/starvation.py``). Reproductions
of the paper chose it as well.
"""

from __future__ import annotations

import math

import attrs

DEFAULT_BETA: float | None = 8.0

valid_beta = attrs.validators.optional(
    attrs.validators.and_(attrs.validators.gt(0.0), attrs.validators.lt(math.inf))
)
"""Positive and finite; None: no program is promoted."""
