"""What has happened on an engine, counted by kind.

A law that is never put to the test holds too easily.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from autellix.core.call import Call
from autellix.core.facts import (
    Demoted,
    Fact,
    Preempted,
    Promoted,
    Raised,
    Reserved,
    Resumed,
    Scheduled,
)
from autellix.core.kv_blocks import KVBlocks
from autellix.core.prefix_tree import Node
from autellix.core.records import PreemptionKind
from autellix.core.tier import Tier

KINDS = {
    "pause",
    "resume",
    "swap-out",
    "swap-in",
    "drop",
    "recompute",
    "promotion",
    "demotion",
    "raise",
    "reservation",
    "reserve",
    "growth yield",
    "self-yield",
    "recomputation spared",
    "recomputation undone",
    "cancel in step",
    "cancel running",
    "cancel waiting",
    "cancel paused",
    "cancel swapped",
    "device eviction",
    "host eviction",
    "device hit",
    "host hit",
    "write-back",
    "new version",
    "placed by a new version",
    "moved by a new version",
    "window",
    "refusal",
    "newcomer",
    "turned away",
    "passed over",
    "retention lost",
}

PREEMPTED = {
    PreemptionKind.PAUSE: "pause",
    PreemptionKind.SWAP: "swap-out",
    PreemptionKind.DROP: "drop",
}
RESUMED = {
    PreemptionKind.PAUSE: "resume",
    PreemptionKind.SWAP: "swap-in",
    PreemptionKind.DROP: "recompute",
}


def count_fact(seen: Counter[str], fact: Fact, call: Call) -> None:
    """Count what happened to a call."""
    match fact:
        case Preempted():
            seen[PREEMPTED[fact.kind]] += 1
        case Resumed():
            seen[RESUMED[fact.kind]] += 1
        case Promoted():
            seen["promotion"] += 1
        case Demoted():
            seen["demotion"] += 1
            assert fact.level > fact.was
        case Raised():
            seen["raise"] += 1
            assert fact.level < fact.was
        case Reserved():
            seen["reservation"] += 1
        case Scheduled():
            seen["device hit"] += call.cached_device_tokens > 0
            seen["host hit"] += call.cached_host_tokens > 0
        case _:
            pass


class Evictions:
    """What could be evicted from each tier, with what is below it, before something."""

    def __init__(self, blocks: KVBlocks) -> None:
        self._blocks = blocks
        self._device = _evictable(blocks.device)
        self._host = _evictable(blocks.host)

    def count(self, seen: Counter[str]) -> None:
        """Nothing went before what lies below it and could have gone (K3)."""
        for node, below in self._device.items():
            if node.device is None:
                seen["device eviction"] += 1
                assert all(child.device is None for child in below)
        for node, below in self._host.items():
            if node.host is None:
                seen["host eviction"] += 1
                assert not any(self._blocks.host.is_idle(child) for child in below)


def _evictable(tier: Tier) -> Mapping[Node, Sequence[Node]]:
    idle = [*tier.cached, *tier.retained]
    return {node: list(node.children.values()) for node in idle}
