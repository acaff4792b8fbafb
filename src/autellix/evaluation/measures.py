"""What is told of a run: pure functions of the rows of its programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import attrs

from autellix.core.records import WaitReason

if TYPE_CHECKING:
    from autellix.evaluation.result import ProgramRow, Result

_NO_QUEUE: Final = frozenset({WaitReason.SWAP, WaitReason.ROUND})


@attrs.frozen(kw_only=True)
class Measures:
    """A run, or one class of its programs.

    Attributes:
        programs: How many.
        latency_mean_s: From the arrival of a program to its end.
        latency_p50_s: Half of them take no longer.
        latency_p95_s: 95 % of them do not.
        latency_p99_s: 99 % of them do not.
        token_mean_s: Mean over programs of latency by tokens generated: the paper's
            metric. It weighs programs alike, and so the short ones more.
        token_p95_s: 95 % of programs have no more.
        token_p99_s: 99 % have no more.
        makespan_s: From the first arrival to the last end.
        slowdown_mean: Latency as a multiple of what the program would take alone.
        fairness: Jain's index of the slowdowns: 1 if all are slowed down alike, 1/n if
            one program suffers for all.
        service_s: Engine time of the calls of a program, mean.
        wait_s: Wait of the calls of a program, mean.
        cache_hit_rate: Share of prompt tokens found in a cache.
    """

    programs: int
    latency_mean_s: float
    latency_p50_s: float
    latency_p95_s: float
    latency_p99_s: float
    token_mean_s: float
    token_p95_s: float
    token_p99_s: float
    makespan_s: float
    slowdown_mean: float
    fairness: float
    service_s: float
    wait_s: float
    cache_hit_rate: float


@attrs.frozen(kw_only=True)
class Breakdown:
    """Where the time of a program's calls goes, seconds a program, mean.

    Attributes:
        service_s: In steps of an engine.
        queue_s: For room: slots, tokens, blocks, behind better calls.
        swap_s: For KV on its way.
        round_s: For a decision: a step under way, or work between two steps.
    """

    service_s: float
    queue_s: float
    swap_s: float
    round_s: float


def measures(rows: Sequence[ProgramRow]) -> Measures:
    """Return what is told of programs; at least one."""
    count = len(rows)
    latencies_s = sorted(row.latency_s for row in rows)
    tokens_s = sorted(row.latency_s_per_token for row in rows)
    slowdowns = [row.slowdown for row in rows]
    return Measures(
        programs=count,
        latency_mean_s=math.fsum(latencies_s) / count,
        latency_p50_s=percentile(latencies_s, 50),
        latency_p95_s=percentile(latencies_s, 95),
        latency_p99_s=percentile(latencies_s, 99),
        token_mean_s=math.fsum(tokens_s) / count,
        token_p95_s=percentile(tokens_s, 95),
        token_p99_s=percentile(tokens_s, 99),
        makespan_s=max(row.started_s + row.latency_s for row in rows)
        - min(row.started_s for row in rows),
        slowdown_mean=math.fsum(slowdowns) / count,
        fairness=jain(slowdowns),
        service_s=math.fsum(row.service_s for row in rows) / count,
        wait_s=math.fsum(row.wait_s for row in rows) / count,
        cache_hit_rate=sum(row.cached_tokens for row in rows)
        / sum(row.prompt_tokens for row in rows),
    )


def by_class(rows: Sequence[ProgramRow]) -> Mapping[str, Measures]:
    """Return the measures of each class of programs, by its name."""
    of_class = attrgetter("program_class")
    return {
        name: measures(list(group))
        for name, group in groupby(sorted(rows, key=of_class), key=of_class)
    }


def breakdown(result: Result) -> Breakdown:
    """Return where time went."""
    programs = len(result.rows)
    queue_s = (
        result.wait_s.get(reason.value, 0.0)
        for reason in WaitReason
        if reason not in _NO_QUEUE
    )
    return Breakdown(
        service_s=math.fsum(row.service_s for row in result.rows) / programs,
        queue_s=math.fsum(queue_s) / programs,
        swap_s=result.wait_s.get(WaitReason.SWAP.value, 0.0) / programs,
        round_s=result.wait_s.get(WaitReason.ROUND.value, 0.0) / programs,
    )


def percentile(rising: Sequence[float], percent: int) -> float:
    """Return the smallest of the values that so many per cent do not exceed."""
    return rising[max(0, -(-percent * len(rising) // 100) - 1)]


def jain(values: Sequence[float]) -> float:
    """Return Jain's fairness index, (sum x)^2 / (n sum x^2)."""
    squares = math.fsum(value * value for value in values)
    return math.fsum(values) ** 2 / (len(values) * squares) if squares else 1.0
