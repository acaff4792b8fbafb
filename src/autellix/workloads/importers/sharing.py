"""What prompts share, from the hashes of their blocks.

Equal ids mean equal prompts up to the end of that block, so what is found is true as
far as it goes: a block that is shared in part counts as not shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import attrs

if TYPE_CHECKING:
    from autellix.workloads.trace import TraceCall


class Shared(NamedTuple):
    """What a prompt begins like."""

    call: int
    tokens: int


@attrs.define(eq=False)
class SharedBlocks:
    """Finds what the calls of one program share with earlier ones."""

    block_tokens: int
    _calls: dict[int, tuple[int, int]] = attrs.field(factory=dict, init=False)
    """Latest call that has a block, and its prompt's length."""

    def add(
        self, call: int, blocks: Sequence[int] | None, prompt_tokens: int
    ) -> Shared | None:
        """Take a call in; return the latest one that shares most with it."""
        found = None
        for place in range(len(blocks or ()), 0, -1):
            known = self._calls.get((blocks or ())[place - 1])
            if known is not None:
                tokens = min(place * self.block_tokens, prompt_tokens, known[1])
                found = Shared(known[0], tokens)
                break
        for block in blocks or ():
            self._calls[block] = (call, prompt_tokens)
        return found


def prefix_groups(
    programs: Iterable[Sequence[Sequence[int] | None]],
) -> Mapping[int, int]:
    """Find the prompts of different programs that begin with the same block.

    Args:
        programs: Of each program the blocks of each call.

    Returns:
        Of each such block, how many blocks all prompts share that begin with it.
    """
    begins: dict[int, tuple[int, ...]] = {}
    owner: dict[int, int] = {}
    shared: set[int] = set()
    for number, calls in enumerate(programs):
        for blocks in calls:
            if not blocks:
                continue
            first = blocks[0]
            same = begins.setdefault(first, tuple(blocks))
            if owner.setdefault(first, number) != number:
                shared.add(first)
            alike = _alike(same, blocks)
            if alike < len(same):
                begins[first] = same[:alike]
    return {first: len(begins[first]) for first in shared}


def in_group(
    call: TraceCall, blocks: Sequence[int] | None, groups: Mapping[int, int], size: int
) -> TraceCall:
    """Return a call with the group that its prompt begins like."""
    if not blocks or blocks[0] not in groups:
        return call
    tokens = min(groups[blocks[0]] * size, call.prompt_tokens)
    return attrs.evolve(
        call, prefix_group=f"block-{blocks[0]}", group_prefix_tokens=tokens
    )


def hash_runs(blocks: Sequence[int] | None) -> tuple[tuple[int, int], ...] | None:
    """Return hashes as runs of consecutive ids: (first id, length)."""
    if blocks is None:
        return None
    runs = groupby(enumerate(blocks), key=lambda placed: placed[1] - placed[0])
    return tuple(
        (members[0][1], len(members)) for members in (list(run) for _, run in runs)
    )


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many blocks two prompts have in common at their start."""
    for place, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine != yours:
            return place
    return min(len(one), len(other))
