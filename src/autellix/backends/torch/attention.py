"""Attention over a packed batch of calls, short ones in rows, the others one by one.

The modules of ``transformers`` are used as they are. Their attention is replaced by one
function through its public registry; what that needs to know of the batch comes with
the call of the model, so any number of engines can run at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

if TYPE_CHECKING:
    from autellix.backends.torch.extents import Extent
    from autellix.backends.torch.rows import RowBatch
    from autellix.core.call import Call

ATTENTION = "autellix_extents"
"""Name in the registry, given to ``from_pretrained(attn_implementation=…)``."""


@attrs.frozen(eq=False)
class Segment:
    """The tokens of one call in a step.

    Attributes:
        call: The call, not changed while the step runs.
        extent: Where its KV lies.
        tokens: How many are computed now.
    """

    call: Call
    extent: Extent
    tokens: int

    @property
    def position(self) -> int:
        """Place of the first token in the call: so many have their KV already."""
        return self.call.computed


class PackedBatch:
    """The calls of one step, one behind the other in a batch of one row.

    All views into the extents are made here, once a step, and not once a layer.

    Args:
        rows: Short calls that decode; their tokens come first.
        segments: The other calls.

    Attributes:
        rows: As given.
        sizes: Tokens of each other call.
        masks: Additive mask ``[tokens, seen]`` of each call where it needs one.
        written: For each layer, where the new keys and values of each call go:
            ``[2, kv_heads, tokens, head_dim]``.
        keys: For each layer, what each call sees: ``[1, kv_heads, seen, head_dim]``.
        values: As ``keys``.
    """

    def __init__(self, rows: RowBatch, segments: Sequence[Segment]) -> None:
        self.rows = rows
        self.sizes = [segment.tokens for segment in segments]
        self.masks = [_mask(segment) for segment in segments]
        self.is_causal = [s.tokens > 1 and not s.position for s in segments]
        written, keys, values = [], [], []
        for segment in segments:
            kv, position, tokens = segment.extent.kv, segment.position, segment.tokens
            seen = kv.narrow(3, 0, position + tokens)
            written.append(kv.narrow(3, position, tokens).unbind(1))
            keys.append(seen[0].unsqueeze(1).unbind(0))
            values.append(seen[1].unsqueeze(1).unbind(0))
        self.written = list(zip(*written, strict=True))
        self.keys = list(zip(*keys, strict=True))
        self.values = list(zip(*values, strict=True))


def _mask(segment: Segment) -> torch.Tensor | None:
    """Return the causal mask of a chunk that is not the first; others need none.

    SDPA's own causal mask is aligned with the first key, not with the last.
    """
    if segment.tokens == 1 or segment.position == 0:
        return None
    seen = segment.position + segment.tokens
    hidden = torch.full(
        (segment.tokens, seen), -torch.inf, dtype=segment.extent.kv.dtype
    )
    return hidden.triu_(segment.position + 1)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - the registry's signature
    *,
    scaling: float,
    packed: PackedBatch,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Store new keys and values, then attend: all rows at once, others one by one.

    Shapes: ``query`` ``[1, heads, tokens, head_dim]``, ``key`` and ``value`` ``[1,
    kv_heads, tokens, head_dim]``; the result is ``[1, tokens, heads, head_dim]``.
    """
    layer = module.layer_idx
    assert isinstance(layer, int)  # noqa: S101 - narrows the type of a module's attribute
    short = len(packed.rows.segments)
    outputs = []
    if short:
        q, k, v = query[:, :, :short], key[:, :, :short], value[:, :, :short]
        outputs.append(packed.rows.attend(layer, q, k, v, scaling))
    if packed.sizes:
        q, k, v = query[:, :, short:], key[:, :, short:], value[:, :, short:]
        outputs += _attend_each(packed, layer, q, k, v, scaling)
    return torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0], None


def _attend_each(
    packed: PackedBatch,
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
) -> list[torch.Tensor]:
    """Return ``[1, tokens, heads, head_dim]`` for each call that is not in a row.

    A loop of SDPA calls needs no gather, no padding and no mask over the batch.
    """
    new = torch.split(torch.stack((key[0], value[0])), packed.sizes, dim=2)
    for place, fresh in zip(packed.written[layer], new, strict=True):
        place.copy_(fresh)
    return [
        scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            is_causal=is_causal,
            scale=scaling,
            enable_gqa=True,
        ).transpose(1, 2)
        for queries, keys, values, mask, is_causal in zip(
            torch.split(query, packed.sizes, dim=2),
            packed.keys[layer],
            packed.values[layer],
            packed.masks,
            packed.is_causal,
            strict=True,
        )
    ]


# No mask function is registered beside it: transformers then builds no mask at all.
AttentionInterface.register(ATTENTION, attend)
