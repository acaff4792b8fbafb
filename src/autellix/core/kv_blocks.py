"""KV blocks of one engine: pool, prefix cache, host tier (rules K1 to K5).

This is bookkeeping only. What is to be moved is left as copies for the next plan; an
engine reads all their sources before it writes any target, so a block may be given away
in the very round in which its content is copied out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from autellix.core.call import CallState
from autellix.core.device_tier import DeviceTier
from autellix.core.found import NOTHING_FOUND, Found, on_device
from autellix.core.host_tier import HostTier, count_with_host
from autellix.core.prefix_tree import Node, PrefixTree, Slot, held
from autellix.errors import InvariantError

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.plan import BlockCopy
    from autellix.core.prefix_tree import Lease
    from autellix.core.tier import Tier


class Copies(NamedTuple):
    """What the next plan has to move."""

    to_host: Sequence[BlockCopy]
    to_device: Sequence[BlockCopy]
    within_device: Sequence[BlockCopy]


class KVBlocks:
    """Device and host blocks of one engine.

    Args:
        device_blocks: Blocks on the engine.
        host_blocks: Blocks in the host pool; 0 is no host tier.
        block_tokens: Tokens a block holds.
        shares_blocks: Whether calls can share a block. Where not (one contiguous
            extent a sequence), a prefix hit takes new blocks and is copied (K1).
        caches_prefixes: Whether blocks of earlier calls are found again.
        retains_prefixes: Whether unfinished programs retain them (K7).
        fingerprint: Of the model (K2).

    Raises:
        ValueError: A size is out of range.
    """

    def __init__(
        self,
        *,
        device_blocks: int,
        host_blocks: int,
        block_tokens: int,
        shares_blocks: bool,
        caches_prefixes: bool = True,
        retains_prefixes: bool = True,
        fingerprint: str = "",
    ) -> None:
        if device_blocks < 1 or host_blocks < 0 or block_tokens < 1:
            raise ValueError(
                f"device_blocks {device_blocks} and block_tokens {block_tokens} must "
                f"be at least 1, host_blocks {host_blocks} at least 0"
            )
        self.block_tokens = block_tokens
        self.shares_blocks = shares_blocks
        self.caches_prefixes = caches_prefixes
        self.retains_prefixes = caches_prefixes and retains_prefixes
        self.device = DeviceTier(device_blocks, self._forget)
        self.host = HostTier(host_blocks, self._forget)
        is_host_larger = host_blocks > device_blocks
        self.pool: Tier = self.host if is_host_larger else self.device
        self.tree = PrefixTree(fingerprint=fingerprint, block_tokens=block_tokens)
        self._loads: list[BlockCopy] = []
        self._hits: list[BlockCopy] = []

    def blocks_for(self, tokens: int) -> int:
        """Return how many blocks hold ``tokens``."""
        return -(-tokens // self.block_tokens)

    # -- looking -----------------------------------------------------------------

    def find(self, call: Call) -> Found:
        """Return what a waiting or swapped call could start from; takes nothing.

        At least its last token is left to compute, so that there is an output.
        """
        lease = call.lease
        if call.state is CallState.SWAPPED:
            chain, private = lease.host_chain, lease.host_private
            return Found(
                chain,
                *on_device(chain, shares_blocks=self.shares_blocks),
                private,
                call.computed,
            )
        if not self.caches_prefixes:
            return NOTHING_FOUND
        limit = (len(call.tokens) - 1) // self.block_tokens
        self.tree.extend_match(lease.found, call.tokens, limit)
        device, idle = on_device(lease.found, shares_blocks=self.shares_blocks)
        end = len(lease.found)
        if self.host.moving or not self.shares_blocks:  # else all can be read
            end = device
            for node in lease.found[device:]:
                if node.host is None or node.host.is_moving:
                    break
                end += 1
        nodes = lease.found if end == len(lease.found) else lease.found[:end]
        return Found(nodes, device, idle, (), end * self.block_tokens)

    def lacking(self, call: Call, found: Found, tokens: int) -> int:
        """Return how many blocks are missing to hold ``tokens`` of ``call``.

        Free and unreferenced cached blocks count as there; 0 or less: it can be had.
        """
        needed = self.blocks_for(tokens) - len(call.lease.blocks)
        there = self.device.available
        if self.shares_blocks and found.device:
            needed -= found.device
            there -= found.idle
        return needed - there

    # -- taking ------------------------------------------------------------------

    def admit(self, call: Call, found: Found, tokens: int) -> None:
        """Give ``call`` its blocks for ``tokens``, with what was found in them.

        Raises:
            InvariantError: There is no room; ``lacking`` was not asked.
        """
        lease = call.lease
        hits, rest = found.nodes[: found.device], found.nodes[found.device :]
        for node in rest:  # hold all that is read before anything is evicted
            self.host.read_shared(node)
        loads = [held(node.host).block for node in rest] + list(found.private)
        self.host.touch(found.nodes)
        if call.state is CallState.SWAPPED:
            self.host.read(lease)
        lease.chain.extend(hits)
        if self.shares_blocks:
            self.device.hold(lease, hits)
        else:
            self._hits += self.device.copy_hits(lease, hits)
        self._loads += self.device.copies_into(lease, loads)
        lease.found = []
        if not self.grow(lease, tokens):
            raise InvariantError(f"call {call.call_id} was admitted without room")

    def grow(self, lease: Lease, tokens: int) -> bool:
        """Take blocks until the lease holds ``tokens``; all or nothing."""
        missing = self.blocks_for(tokens) - len(lease.blocks)
        if missing > self.device.available:
            return False
        if missing > 1:
            lease.blocks += self.device.take_free(missing)
            missing = self.blocks_for(tokens) - len(lease.blocks)
        for _ in range(missing):
            lease.blocks.append(self.device.take_or_evict())
        return True

    def publish(self, call: Call) -> None:
        """Make the full computed blocks of ``call`` findable."""
        lease = call.lease
        full = min(call.computed // self.block_tokens, len(lease.blocks))
        if not self.caches_prefixes or full <= len(lease.chain):
            return
        parent = lease.chain[-1] if lease.chain else self.tree.root
        first = len(lease.chain)
        keys = self.tree.keys(call.tokens, first, full)
        for index, key in enumerate(keys, start=first):
            if not parent.is_indexed:
                return
            node = self.tree.child(parent, key)
            if node.device is None:
                node.device = Slot(lease.blocks[index], references=1)
            elif self.shares_blocks:
                if not node.device.references:
                    self.device.rouse(node)
                node.device.references += 1
                self.device.give(lease.blocks[index])
                lease.blocks[index] = node.device.block
            else:
                node.copies += (Slot(lease.blocks[index], references=1),)
            lease.chain.append(node)
            parent = node

    # -- giving back -------------------------------------------------------------

    def release(self, call: Call) -> None:
        """Take everything back; full blocks stay findable and go to the host (K5)."""
        lease = call.lease
        there = [node for node in lease.chain if node.host is not None]
        room = self.host.free + len(self.host.cached)
        if len(lease.chain) <= room:
            self.host.touch(there)  # so that others are evicted, if any
            self._copy_to_host(lease, len(lease.chain))
        else:
            for node in there:  # or writing the rest could evict them
                self.host.reference(node)
            self._copy_to_host(lease, self.host.available)
            for node in reversed(there):
                self.host.unreference(node)
        self.device.release(lease)
        self.host.give_up(lease)
        lease.found = []

    def _copy_to_host(self, lease: Lease, most: int) -> None:
        for node, block in zip(lease.chain, lease.blocks, strict=False):
            if node.host is None and node.is_indexed and most > 0:
                self.host.write(node, block)
                most -= 1

    def drop(self, call: Call) -> None:
        """Take the device blocks back; what is not found again is recomputed."""
        self.device.release(call.lease)
        call.lease.found = []

    def host_blocks_needed(self, call: Call) -> int:
        """Return how many available host blocks it would take to swap ``call`` out."""
        kept = self._swappable_chain(call)
        pinned = sum(1 for node in kept if self.host.is_idle(node))
        return self.blocks_for(call.computed) - count_with_host(kept) + pinned

    def swap_out(self, call: Call) -> None:
        """Move the blocks of ``call`` to the host pool.

        There must be room: see ``host_blocks_needed``.
        """
        lease = call.lease
        kept = self._swappable_chain(call)
        for node in kept:
            if node.host is not None:
                self.host.reference(node)
        for node, block in zip(kept, lease.blocks, strict=False):
            if node.host is None:
                self.host.write(node, block)
                self.host.reference(node)
        lease.host_chain = list(kept)
        lease.host_private = [
            self.host.write_private(block)
            for block in lease.blocks[len(kept) : self.blocks_for(call.computed)]
        ]
        self.device.release(lease)

    # -- retaining (K7) ----------------------------------------------------------

    def retain(self, chain: Sequence[Node]) -> None:
        """Evict a chain after all that nobody retains."""
        device, host = self.device, self.host
        for node in reversed(chain):
            device.retain(node)
            host.retain(node)
            node.retained += 1

    def let_go(self, chain: Sequence[Node]) -> None:
        """Undo ``retain``."""
        device, host = self.device, self.host
        for node in reversed(chain):
            node.retained -= 1
            if not node.retained:
                device.let_go(node)
                host.let_go(node)

    # -- plan by plan ------------------------------------------------------------

    @property
    def has_copies(self) -> bool:
        """Whether something is to be moved."""
        return bool(self.host.writes or self._loads or self._hits)

    def take_copies(self) -> Copies:
        """Return what is to be moved, once."""
        copies = Copies(self.host.take_writes(), self._loads, self._hits)
        self._loads, self._hits = [], []
        return copies

    def settle(self) -> None:
        """Note that the copies taken last have been made."""
        self.host.settle()
        self.device.settle()

    # -- both tiers --------------------------------------------------------------

    def _forget(self, node: Node) -> None:
        """Drop ``node`` from the index, with all below it that nobody holds."""
        if not node.children:  # leaves go first, so this is nearly always so
            self.tree.cut(node)
            return
        for gone in self.tree.detach(node):
            if self.device.is_idle(gone):
                self.device.rouse(gone)
                self.device.give(held(gone.device).block)
                gone.device = None
            if self.host.is_idle(gone):
                self.host.rouse(gone)
                self.host.give(held(gone.host).block)
                gone.host = None

    def _swappable_chain(self, call: Call) -> Sequence[Node]:
        full = call.computed // self.block_tokens
        kept = []
        for node in call.lease.chain[:full]:
            if not node.is_indexed:
                break
            kept.append(node)
        return kept
