"""What a step scheduler tells its engine to do in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import attrs

if TYPE_CHECKING:
    from autellix.core.call import Call


BlockCopy: TypeAlias = tuple[int, int]
"""Copy the KV of one block to another: ids in the pools that the plan's field says."""


@attrs.frozen(kw_only=True)
class Plan:
    """One step: blocks to move, then the calls to compute.

    An engine reads all sources before it writes any target: a block freed by a copy
    out may be the target of another copy, or be written by the forward pass, in the
    same step.

    Attributes:
        at_ns: Instant of the decision.
        calls: Each call of the step with the number ``n`` of its tokens to compute:
            ``call.tokens[call.computed : call.computed + n]``, at those positions, into
            ``call.lease.blocks``. Where ``call.computed + n == len(call.tokens)`` the
            output is to be sampled. Best call first.
        to_host: (Device block, host block).
        to_device: (Host block, device block), before the forward pass.
        within_device: (Device block, device block): prefix hits, in a layout that
            cannot share blocks between calls (rule K1).
        released: Calls that gave up their device blocks since the last plan; an
            engine with private storage for a call may drop it once the copies are read.
    """

    at_ns: int
    calls: Sequence[tuple[Call, int]]
    to_host: Sequence[BlockCopy] = ()
    to_device: Sequence[BlockCopy] = ()
    within_device: Sequence[BlockCopy] = ()
    released: Sequence[int] = ()

    @property
    def has_copies(self) -> bool:
        """Whether blocks are to be moved."""
        return bool(self.to_host or self.to_device or self.within_device)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compute and nothing to move."""
        return not (self.calls or self.has_copies)


class Sampled(NamedTuple):
    """The model's output for one call of a step.

    Attributes:
        token: The token id, appended to the call.
        is_last: Whether it ends the call before ``max_tokens``: end of text, or it
            completes a stop string.
    """

    token: int
    is_last: bool = False
