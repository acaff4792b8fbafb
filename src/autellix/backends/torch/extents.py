"""Where KV blocks lie in a CPU's memory: one contiguous extent for each call.

The scheduler counts blocks; on a CPU a physical page table costs two to eight times the
attention, so here the blocks of a call are neighbours in one tensor, and this file
alone knows which block id lies where. It is the seam over which another layout (a real
block table on a GPU) goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import attrs
import torch

from autellix.errors import InvariantError

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.plan import BlockCopy, Plan

_SLACK_BLOCKS = 4  # room for the first produced tokens, so that short calls never grow


@attrs.frozen(kw_only=True)
class KVShape:
    """Shape of a model's KV: what one block of it is.

    Attributes:
        layers: Layers of the model.
        kv_heads: Heads of keys and values, fewer than those of queries where grouped.
        head_dim: Numbers a head.
        block_tokens: Tokens a block.
        dtype: Of the numbers.
    """

    layers: int
    kv_heads: int
    head_dim: int
    block_tokens: int
    dtype: torch.dtype

    @property
    def block_shape(self) -> tuple[int, ...]:
        """Shape of one block: keys, then values."""
        return (2, self.layers, self.kv_heads, self.block_tokens, self.head_dim)

    def blocks_for(self, tokens: int) -> int:
        """Return how many blocks hold ``tokens``."""
        return -(-tokens // self.block_tokens)


class _Memory(Protocol):
    """Something that holds blocks side by side."""

    def view(self, start: int, blocks: int) -> torch.Tensor:
        """Return ``[blocks, 2, layers, kv_heads, block_tokens, head_dim]``."""


class _Place(NamedTuple):
    memory: _Memory
    at: int


class HostPool:
    """The host tier: blocks one after the other, whole.

    Its memory is not touched before it is written, so a large pool costs what is used.

    Attributes:
        kv: ``[blocks, 2, layers, kv_heads, block_tokens, head_dim]``.
    """

    def __init__(self, shape: KVShape, blocks: int) -> None:
        self.kv = torch.empty(
            (blocks, *shape.block_shape),
            dtype=shape.dtype,
        )

    def view(self, start: int, blocks: int) -> torch.Tensor:
        """Return ``blocks`` blocks from ``start`` on; see ``_Memory``."""
        return self.kv[start : start + blocks]


@attrs.define(eq=False)
class Extent:
    """KV of one call, contiguous in its tokens.

    Attributes:
        kv: ``[2, layers, kv_heads, capacity, head_dim]``: keys, then values.
        block_tokens: Tokens a block.
        blocks: Ids that were put here, by place.
        live: How many of them have not been given to another extent since.
    """

    kv: torch.Tensor
    block_tokens: int
    blocks: list[int] = attrs.field(factory=list)
    live: int = 0

    @property
    def capacity_blocks(self) -> int:
        """Blocks that have room here."""
        return self.kv.shape[3] // self.block_tokens

    def view(self, start: int, blocks: int) -> torch.Tensor:
        """Return ``blocks`` blocks from ``start`` on; see ``_Memory``."""
        size = self.block_tokens
        tokens = self.kv.narrow(3, start * size, blocks * size)
        two, layers, heads, _, head_dim = tokens.shape
        by_block = tokens.view(two, layers, heads, blocks, size, head_dim)
        return by_block.permute(3, 0, 1, 2, 4, 5)


class Extents:
    """All KV of an engine: the calls' extents and the host pool.

    A block stays where it is after its call has ended, for prefix hits, until its id is
    given to another call; an extent goes when none of its blocks is left. One that is
    less than half in use is copied into a smaller one, so memory is bounded by twice
    the pool, at less than one copied block for each that was taken away.

    Args:
        shape: Of a block.
        host_blocks: Blocks of the host pool.
    """

    def __init__(self, shape: KVShape, *, host_blocks: int) -> None:
        self.shape = shape
        self.host = HostPool(shape, host_blocks)
        self._where: dict[int, _Place] = {}
        self._of_call: dict[int, Extent] = {}
        self._closed: set[Extent] = set()

    def of(self, call_id: int) -> Extent:
        """Return the extent of a resident call."""
        return self._of_call[call_id]

    @property
    def allocated_blocks(self) -> int:
        """Blocks that have memory, in use or not."""
        extents = {id(place.memory): place.memory for place in self._where.values()}
        extents |= {id(extent): extent for extent in self._of_call.values()}
        return sum(e.capacity_blocks for e in extents.values() if isinstance(e, Extent))

    def move(self, plan: Plan) -> None:
        """Make room for the calls of ``plan`` and make its copies.

        All sources are looked up before any id changes its place, and a released call
        gets a new extent when it comes back: so no copy overwrites what another reads.
        """
        swapped_out = [self._place(source) for source, _ in plan.to_host]
        hits = [self._place(source) for source, _ in plan.within_device]
        for call_id in plan.released:
            extent = self._of_call.pop(call_id, None)
            if extent is not None:
                self._closed.add(extent)
        for call, _ in plan.calls:
            self._hold(call)
        in_host = [_Place(self.host, source) for source, _ in plan.to_device]
        _copy(in_host, self._targets(plan.to_device))
        _copy(hits, self._targets(plan.within_device))
        _copy(swapped_out, [_Place(self.host, target) for _, target in plan.to_host])
        self._compact()

    def _place(self, block: int) -> _Place:
        """Return where a block is.

        Raises:
            InvariantError: It was never written.
        """
        """Return where a block is.

        Raises:
            InvariantError: It was never written.
        """
        place = self._where.get(block)
        if place is None:
            raise InvariantError(f"block {block} is read but was never written")
        return place

    def _targets(self, copies: Iterable[BlockCopy]) -> list[_Place]:
        return [self._place(target) for _, target in copies]

    def _hold(self, call: Call) -> None:
        """Give every block of the call's lease its place in the call's extent.

        Raises:
            InvariantError: The lease has other blocks than before.
        """
        ids = call.lease.blocks
        extent = self._of_call.get(call.call_id)
        held = len(extent.blocks) if extent else 0
        if extent and held and (len(ids) < held or ids[held - 1] != extent.blocks[-1]):
            raise InvariantError(f"blocks of call {call.call_id} changed in its lease")
        if extent is None or extent.capacity_blocks < len(ids):
            extent = self._enlarge(call, extent)
            self._of_call[call.call_id] = extent
        for block in ids[held:]:
            self._bind(block, extent)

    def _enlarge(self, call: Call, old: Extent | None) -> Extent:
        """Return an extent with room to grow, with what ``old`` held."""
        held = old.capacity_blocks if old else 0
        wanted = max(2 * held, self.shape.blocks_for(len(call.tokens)) + _SLACK_BLOCKS)
        limit = self.shape.blocks_for(len(call.spec.prompt) + call.spec.max_tokens)
        extent = self._allocate(max(min(wanted, limit), len(call.lease.blocks)))
        if old is not None:
            self._transfer(old, extent)
        return extent

    def _allocate(self, blocks: int) -> Extent:
        shape = self.shape
        tokens = blocks * shape.block_tokens
        kv = torch.empty(
            (2, shape.layers, shape.kv_heads, tokens, shape.head_dim), dtype=shape.dtype
        )
        return Extent(kv, shape.block_tokens)

    def _bind(self, block: int, extent: Extent) -> None:
        before = self._where.get(block)
        if before is not None and isinstance(before.memory, Extent):
            before.memory.live -= 1
            self._closed.add(before.memory)
        self._where[block] = _Place(extent, len(extent.blocks))
        extent.blocks.append(block)
        extent.live += 1

    def _transfer(self, old: Extent, new: Extent) -> None:
        """Copy what is live in ``old`` to the front of ``new`` and bind it there."""
        sources = []
        for index, block in enumerate(old.blocks):
            place = self._where.get(block)
            if place is not None and place.memory is old and place.at == index:
                sources.append(place)
        for place in sources:
            self._bind(old.blocks[place.at], new)
        _copy(sources, [_Place(new, index) for index in range(len(sources))])

    def _compact(self) -> None:
        """Shrink what nobody holds and is less than half in use."""
        closed, self._closed = self._closed, set()
        for extent in closed:
            if extent.live and 2 * extent.live < extent.capacity_blocks:
                self._transfer(extent, self._allocate(extent.live))
        self._closed.clear()  # the extents just emptied

    @torch.inference_mode()
    def poison(self, device_blocks: Iterable[int], host_blocks: Iterable[int]) -> None:
        """Write NaN over blocks that hold nothing, to catch whoever reads them.

        For tests, after ``move``. Room behind the blocks of each extent is overwritten
        as well.
        """
        for block in device_blocks:
            place = self._where.get(block)
            if place is not None:
                place.memory.view(place.at, 1).fill_(torch.nan)
        for block in host_blocks:
            self.host.view(block, 1).fill_(torch.nan)
        for extent in self._of_call.values():
            used = len(extent.blocks)
            extent.view(used, extent.capacity_blocks - used).fill_(torch.nan)


def _copy(sources: Sequence[_Place], targets: Sequence[_Place]) -> None:
    """Copy block by block, neighbours together: one packed transfer for each run."""
    start = 0
    for end in range(1, len(sources) + 1):
        if end < len(sources) and _are_next(sources, end) and _are_next(targets, end):
            continue
        (source, first), (target, to) = sources[start], targets[start]
        target.view(to, end - start).copy_(source.view(first, end - start))
        start = end


def _are_next(places: Sequence[_Place], index: int) -> bool:
    before, place = places[index - 1], places[index]
    return before.memory is place.memory and before.at + 1 == place.at
