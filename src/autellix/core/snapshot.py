"""Frozen pictures of one engine's state, for statistics and balancers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from autellix.core.books import Books
    from autellix.core.kv_blocks import KVBlocks
    from autellix.core.records import PreemptionKind, WaitReason


@attrs.frozen(kw_only=True)
class TierUse:
    """Blocks of one tier by state (rule K1); they add up to ``total``.

    Attributes:
        retained: Of the cached ones, those that unfinished programs retain (K7).
    """

    total: int
    free: int
    cached: int
    referenced: int
    moving: int
    retained: int = 0


@attrs.frozen(kw_only=True)
class EngineStatistics:
    """Frozen snapshot of an engine; counters since it was entered.

    Attributes:
        level_occupancy: Live calls by level.
        wait_ns: Of calls that ended, by reason.
        model_tokens: Tokens that entered the model, recomputation included.
        live_work_ns: Work of calls that live, by program.
    """

    steps: int
    running: int
    paused: int
    swapped: int
    waiting: int
    worst_running_level: int | None
    level_occupancy: Sequence[int]
    demotions: int
    promotions: int
    reservations: int
    preemptions: Mapping[PreemptionKind, int]
    cached_device_tokens: int
    cached_host_tokens: int
    prompt_tokens: int
    output_tokens: int
    model_tokens: int
    wait_ns: Mapping[WaitReason, int]
    service_ns: int
    device: TierUse
    host: TierUse
    ranking_version: int
    live_work_ns: Mapping[int, int] = attrs.field(factory=dict)


def snapshot(books: Books, steps: int, ranking_version: int) -> EngineStatistics:
    """Return the picture of an engine; cost is O(live calls)."""
    occupancy = Counter(call.level for call in books.calls.values())
    states = Counter(call.state.value for call in books.calls.values())
    totals = books.totals
    return EngineStatistics(
        steps=steps,
        running=states["running"],
        paused=states["paused"],
        swapped=states["swapped"],
        waiting=states["waiting"],
        worst_running_level=max((c.level for c in books.running), default=None),
        level_occupancy=[occupancy[n] for n in range(books.places.ranking.levels)],
        demotions=totals["demotions"],
        promotions=totals["promotions"],
        reservations=totals["reservations"],
        preemptions=dict(books.preemptions),
        cached_device_tokens=totals["cached_device_tokens"],
        cached_host_tokens=totals["cached_host_tokens"],
        prompt_tokens=totals["prompt_tokens"],
        output_tokens=totals["output_tokens"],
        model_tokens=totals["model_tokens"],
        wait_ns=dict(books.ended_wait_ns),
        service_ns=totals["service_ns"],
        device=device_use(books.blocks),
        host=host_use(books.blocks),
        ranking_version=ranking_version,
        live_work_ns=_live_work_ns(books),
    )


def _live_work_ns(books: Books) -> Mapping[int, int]:
    work_ns: Counter[int] = Counter()
    for call in books.calls.values():
        if call.work_ns:
            work_ns[call.spec.program_id] += call.work_ns
    return dict(work_ns)


def device_use(blocks: KVBlocks) -> TierUse:
    """Return the use of the engine's own blocks."""
    tier = blocks.device
    referenced = tier.total - tier.free - tier.idle
    return TierUse(
        total=tier.total,
        free=tier.free,
        cached=tier.idle,
        referenced=referenced,
        moving=0,
        retained=len(tier.retained),
    )


def host_use(blocks: KVBlocks) -> TierUse:
    """Return the use of the host pool."""
    tier = blocks.host
    referenced = tier.total - tier.free - tier.idle - tier.moving
    return TierUse(
        total=tier.total,
        free=tier.free,
        cached=tier.idle,
        referenced=referenced,
        moving=tier.moving,
        retained=len(tier.retained),
    )
