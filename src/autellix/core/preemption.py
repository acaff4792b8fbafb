"""Whose blocks to take for a waiting call, how, and whether it pays (rules S2, S7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from autellix.core.prefix_tree import Node, held
from autellix.core.records import PreemptionKind

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.cost_model import CostModel
    from autellix.core.found import Found
    from autellix.core.kv_blocks import KVBlocks


class Preemption:
    """What preempting would give and cost; decides nothing and changes nothing."""

    def __init__(self, blocks: KVBlocks, costs: CostModel) -> None:
        self._blocks = blocks
        self._costs = costs

    def victims(
        self, worse: Iterable[Call], found: Found, lacking: int
    ) -> list[Call] | None:
        """Return whom to preempt for blocks; None if all of them would not do.

        Args:
            worse: Resident calls that may be preempted, the first to go first.
            found: What the call that lacks blocks starts from.
            lacking: How many it lacks.
        """
        reclaim = _Reclaim(self._blocks, found)
        victims: list[Call] = []
        host_blocks = self._blocks.host.available
        for victim in worse:
            kind = self.kind(victim, host_blocks)
            if victim.is_recomputing or not self._pays(victim, kind):
                continue
            if kind is PreemptionKind.SWAP:
                host_blocks -= self._blocks.host_blocks_needed(victim)
            victims.append(victim)
            reclaim.add(victim)
            if reclaim.gained >= lacking:
                return victims
        return None

    def kind(self, call: Call, host_blocks: int) -> PreemptionKind:
        """Return how to take a call's blocks with so many host blocks left (S7)."""
        if (
            call.computed
            and self._costs.is_swap_cheaper(len(call.lease.blocks), call.computed)
            and self._blocks.host_blocks_needed(call) <= host_blocks
        ):
            return PreemptionKind.SWAP
        return PreemptionKind.DROP

    def _pays(self, call: Call, kind: PreemptionKind) -> bool:
        """Say whether preempting costs less than letting the call end (rule S2)."""
        if kind is PreemptionKind.SWAP:
            cost_ns = 2 * self._costs.transfer_time_ns(len(call.lease.blocks))
        else:
            cost_ns = self._costs.recompute_ns(call.computed)
        return cost_ns < call.remaining * self._costs.single_step_ns()


class _Reclaim:
    """Counts what preempting one call after another would free, for one candidate."""

    def __init__(self, blocks: KVBlocks, found: Found) -> None:
        self._shares = blocks.shares_blocks
        self._wanted = set(found.nodes[: found.device]) if self._shares else set()
        self._released: dict[Node, int] = {}
        self.gained = 0

    def add(self, call: Call) -> None:
        """Count ``call`` as preempted."""
        lease = call.lease
        if not self._shares:
            self.gained += len(lease.blocks)
            return
        self.gained += len(lease.blocks) - len(lease.chain)
        for node in lease.chain:
            released = self._released[node] = self._released.get(node, 0) + 1
            if held(node.device).references == released and node not in self._wanted:
                self.gained += 1
