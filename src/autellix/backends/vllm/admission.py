"""Slots and blocks that are vLLM's to give: what our books know of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import attrs

from autellix.core.kv_blocks import KVBlocks

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.found import Found


class OutsideBlocks(KVBlocks):
    """Stands for blocks that are vLLM's: here no call ever holds one.

    A block counts as one token, so that tokens found in caches are exact.
    """

    def __init__(self) -> None:
        super().__init__(
            device_blocks=1,
            host_blocks=0,
            block_tokens=1,
            shares_blocks=True,
            caches_prefixes=False,
        )

    def admit(self, call: Call, found: Found, tokens: int) -> None:
        """Take nothing."""

    def publish(self, call: Call) -> None:
        """Index nothing: vLLM does."""


@attrs.frozen(kw_only=True)
class Admitted:
    """A call that vLLM has given a slot.

    Attributes:
        call: The call.
        device_tokens: Found in vLLM's prefix cache.
        host_tokens: Loaded by a KV connector.
    """

    call: Call
    device_tokens: int
    host_tokens: int

    @classmethod
    def of(cls, call: Call, request: Any, tokens: int) -> Self:
        """Return what vLLM found for a call besides the tokens it computes now."""
        cached = request.num_computed_tokens - tokens
        loaded = min(cached, getattr(request, "num_external_computed_tokens", 0))
        return cls(call=call, device_tokens=cached - loaded, host_tokens=loaded)
