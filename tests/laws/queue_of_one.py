"""One server, programs of one call, one at a time: where optima are known.

The server works on the first in order and is taken away at once when another becomes
first, which costs nothing. The ranking is asked as an engine would ask it.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import fmean

import attrs

from autellix.core.ranking import Ranking
from autellix.core.records import Job

NS_PER_S = 1_000_000_000


@attrs.define(eq=False)
class _Program:
    job: Job
    arrived_ns: int
    size_ns: int
    age_ns: int = 0
    level: int = 0
    expires_ns: int | None = None

    def order(self) -> tuple[int, int]:
        return self.level, self.job.program_arrival


def load(
    draw: Callable[[random.Random], float], *, busy: float, count: int, seed: int
) -> list[tuple[int, int]]:
    """Return (arrival, size) of programs that keep the server busy so much, in ns."""
    chance = random.Random(seed)
    sizes_s = [draw(chance) for _ in range(count)]
    per_s = busy / fmean(sizes_s)
    arrivals_s = accumulate(chance.expovariate(per_s) for _ in range(count))
    pairs = zip(arrivals_s, sizes_s, strict=True)
    return [(round(a * NS_PER_S), max(1, round(s * NS_PER_S))) for a, s in pairs]


def mean_latency_s(ranking: Ranking, programs: Sequence[tuple[int, int]]) -> float:
    """Return the mean time from arrival to end of programs as of ``load``."""
    waiting: list[tuple[tuple[int, int], _Program]] = []
    coming = list(reversed(programs))
    now_ns, latency_ns = 0, 0
    while coming or waiting:
        if not waiting:
            now_ns = max(now_ns, coming[-1][0])
        while coming and coming[-1][0] <= now_ns:
            arrived_ns, size_ns = coming.pop()
            number = len(programs) - len(coming)
            job = Job(program_class="one", program_arrival=number)
            program = _Program(job, arrived_ns, size_ns)
            placed = ranking.enter(job, 0)
            program.level, program.expires_ns = placed.level, placed.expires_at_ns
            heapq.heappush(waiting, (program.order(), program))
        program = waiting[0][1]
        run_ns = program.size_ns - program.age_ns
        if coming:
            run_ns = min(run_ns, coming[-1][0] - now_ns)
        if program.expires_ns is not None:
            run_ns = min(run_ns, program.expires_ns - program.age_ns)
        now_ns += run_ns
        program.age_ns += run_ns
        if program.age_ns == program.size_ns:
            heapq.heappop(waiting)
            latency_ns += now_ns - program.arrived_ns
        elif program.age_ns == program.expires_ns:
            placed = ranking.expire(program.job, program.age_ns, program.level)
            program.level, program.expires_ns = placed.level, placed.expires_at_ns
            heapq.heapreplace(waiting, (program.order(), program))
    return latency_ns / len(programs) / NS_PER_S
