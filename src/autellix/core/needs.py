"""What a call starts from, and for how many tokens it needs blocks (rules S3, S6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from autellix.core.call import CallState
from autellix.core.found import Found

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.kv_blocks import KVBlocks


@attrs.define(eq=False)
class Needs:
    """Asked of every call that a pass tries or lets go on.

    Attributes:
        blocks: The engine's.
        horizon: Steps for which a decoder gets its blocks in advance.
    """

    blocks: KVBlocks
    horizon: int

    def found(self, call: Call) -> Found:
        """Return what a call without a slot starts from."""
        if call.state is CallState.PAUSED:
            return Found((), 0, 0, (), call.computed)
        return self.blocks.find(call)

    def upto(self, call: Call, found: Found, tokens: int) -> int:
        """Return for how many tokens one needs blocks that is to compute so many."""
        if call.is_recomputing:
            return len(call.tokens)
        if found.tokens and len(call.tokens) - found.tokens == 1:
            return self.decode_upto(call, found.tokens)
        return found.tokens + tokens

    def decode_upto(self, call: Call, computed: int) -> int:
        """Return for how many tokens a decoder needs blocks until the next round."""
        if call.is_recomputing:
            return computed + 1
        return computed + min(self.horizon, call.remaining)
