"""Short calls that decode, side by side, so that one SDPA call attends for all of them.

With little context, calling SDPA for each call and layer costs more than what it
computes. So a short call has its KV a second time: in its row of one tensor that all
short calls share. The extents stay what is kept, copied and swapped; a row is filled
from one when its call joins the batch, and gives it each new token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from autellix.backends.torch.attention import Segment
    from autellix.backends.torch.extents import Extent, KVShape

ROW_TOKENS = 256
"""Most tokens of a short call. With many more, padding costs what the loop does."""


class Rows:
    """KV of the short calls of the last step, one a row.

    Args:
        shape: Of the KV.
    """

    def __init__(self, shape: KVShape) -> None:
        self._shape = shape
        self._kv = self._allocate(0)
        self._held: list[tuple[Extent, int]] = []  # whose KV a row has, how many tokens

    def seat(self, segments: Sequence[Segment]) -> tuple[RowBatch, list[Segment]]:
        """Return the short calls that decode, in the order of rows, and the others.

        A call that was in the last step keeps its row where it can.
        """
        short = {
            segment.extent: segment
            for segment in segments
            if segment.tokens == 1 and segment.position < ROW_TOKENS
        }
        others = [s for s in segments if s.extent not in short]
        if len(short) > self._kv.shape[2]:
            self._kv = self._allocate(2 * len(short))
            self._held = []
        seated: dict[int, Segment] = {}
        for row, (extent, tokens) in enumerate(self._held[: len(short)]):
            if extent in short and short[extent].position <= tokens:
                seated[row] = short.pop(extent)
        for row in range(len(seated) + len(short)):
            if row not in seated:
                _, seated[row] = short.popitem()
                self._fill(row, seated[row])
        in_order = [seated[row] for row in range(len(seated))]
        self._held = [(s.extent, s.position + 1) for s in in_order]
        return RowBatch(self._kv, in_order), others

    def _fill(self, row: int, segment: Segment) -> None:
        target, tokens = self._kv[:, :, row], segment.position
        target[..., :tokens, :] = segment.extent.kv[..., :tokens, :]
        target[..., tokens:, :] = 0.0  # masked, but a NaN would pass any mask

    def _allocate(self, rows: int) -> torch.Tensor:
        shape = self._shape
        return torch.empty(
            (2, shape.layers, rows, shape.kv_heads, ROW_TOKENS, shape.head_dim),
            dtype=shape.dtype,
        )


class RowBatch:
    """The next token of each of the first rows.

    Args:
        kv: ``[2, layers, rows, kv_heads, tokens, head_dim]``: keys, then values.
        segments: Of the calls, in the order of rows; there may be none.
    """

    def __init__(self, kv: torch.Tensor, segments: Sequence[Segment]) -> None:
        self.segments = segments
        self._kv = kv
        if not segments:
            return
        positions = [segment.position for segment in segments]
        seen = max(positions) + 1
        used = kv[:, :, : len(segments), :, :seen]
        self._keys, self._values = used[0].unbind(0), used[1].unbind(0)
        places = torch.tensor(positions)
        self._new = (torch.arange(len(segments)), slice(None), places)
        is_hidden = torch.arange(seen) > places[:, None]
        mask = torch.zeros(is_hidden.shape, dtype=kv.dtype)
        self._mask = mask.masked_fill_(is_hidden, -torch.inf)[:, None, None]

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Store new keys and values in the rows, then attend for all rows at once.

        Shapes: ``query`` ``[1, heads, rows, head_dim]``, ``key`` and ``value`` ``[1,
        kv_heads, rows, head_dim]``; the result is ``[1, rows, heads, head_dim]``.
        """
        keys, values = self._keys[layer], self._values[layer]
        keys[self._new] = key[0].transpose(0, 1)
        values[self._new] = value[0].transpose(0, 1)
        output = scaled_dot_product_attention(
            query.transpose(0, 2),
            keys,
            values,
            attn_mask=self._mask,
            scale=scaling,
            enable_gqa=True,
        )
        return output.permute(2, 0, 1, 3)

    def store(self) -> None:
        """Give the extents the KV that all layers have stored in the rows."""
        for row, segment in enumerate(self.segments):
            place = segment.extent.kv.select(3, segment.position)
            place.copy_(self._kv[:, :, row, :, segment.position])
