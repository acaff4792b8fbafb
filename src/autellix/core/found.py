"""What a call finds of its tokens, and where (rules K2, K5)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from autellix.core.prefix_tree import Node, held


class Found(NamedTuple):
    """What a call without device blocks can start from.

    Attributes:
        nodes: Index nodes: ``device`` of them on the engine, the rest in the host tier.
        device: How many of ``nodes`` are on the engine.
        idle: How many of those nobody references: they are found, and available.
        private: Host blocks only this call knows (it was swapped out).
        tokens: Tokens they hold together.
    """

    nodes: Sequence[Node]
    device: int
    idle: int
    private: Sequence[int]
    tokens: int


NOTHING_FOUND = Found((), 0, 0, (), 0)


def on_device(chain: Sequence[Node], *, shares_blocks: bool) -> tuple[int, int]:
    """Return how many nodes of a chain are there, and how many of them are idle.

    Where calls share blocks, whoever holds a node holds all above it, and leaves are
    evicted first: along a chain nodes are held, then idle, then absent.
    """
    if not shares_blocks:
        return _count_on_device(chain)
    there = bisect_left(chain, x=True, key=_is_absent)
    in_use = bisect_left(chain, x=True, hi=there, key=_is_idle)
    return there, there - in_use


def _count_on_device(nodes: Iterable[Node]) -> tuple[int, int]:
    count = idle = 0
    for node in nodes:
        slot = node.device
        if slot is None or slot.is_moving:
            break
        count += 1
        if not slot.references:
            idle += 1
    return count, idle


def _is_absent(node: Node) -> bool:
    return node.device is None


def _is_idle(node: Node) -> bool:
    return not held(node.device).references
