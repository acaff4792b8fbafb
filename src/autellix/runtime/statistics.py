"""Frozen pictures of a whole runtime, in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from autellix.core.records import Outcome, PreemptionKind, WaitReason
from autellix.runtime.clock import NS_PER_S

if TYPE_CHECKING:
    from autellix.core.records import CallReport
    from autellix.core.snapshot import EngineStatistics
    from autellix.policies.gittins import IndexTable
    from autellix.runtime.engine_handle import EngineHandle
    from autellix.runtime.fleet import Fleet


@attrs.frozen(kw_only=True)
class EngineSnapshot:
    """One engine.

    Attributes:
        model: What it runs.
        is_up: Whether it takes calls.
        calls: Its load: calls sent to it and not ended.
        counters: What the engine itself says: steps, KV use by tier, and more.
    """

    model: str
    is_up: bool
    calls: int
    counters: EngineStatistics


@attrs.frozen(kw_only=True)
class CallCounts:
    """Calls by state: those that live, then those that have ended.

    Attributes:
        intake: Wait in the runtime for an engine with an intake limit.
        waiting: On an engine; never ran, or are to be recomputed.
        running: Hold a slot.
        paused: Preempted, their blocks still on the engine.
        swapped: Preempted, their blocks in the host pool.
        finished: Ended well.
        cancelled: Left by their consumers.
        failed: Ended with their engine.
        retried: Failed, and sent to another engine.
    """

    intake: int
    waiting: int
    running: int
    paused: int
    swapped: int
    finished: int
    cancelled: int
    failed: int
    retried: int


@attrs.frozen(kw_only=True)
class Statistics:
    """A runtime at one instant; counters since it was entered.

    Attributes:
        at_s: The instant, on the event loop's clock.
        programs_open: Programs in their block.
        programs_ended: Programs that have left it.
        anonymous_calls: Calls made outside any program.
        calls: Calls by state.
        engines: By name, in the order in which they were given.
        wait_s: What ended calls waited, by reason (rule A9).
        service_s: Service of ended calls (rule A1).
        work_s: Work of ended calls (rule A2).
        level_occupancy: Live calls on engines by level, 0 first.
        demotions: Placements on a worse level, by age.
        promotions: Calls of starving programs put to level 0.
        preemptions: By kind, of calls that live or have ended.
        prompt_tokens: Of ended calls.
        cached_device_tokens: Of those, found in an engine's prefix cache.
        cached_host_tokens: Of those, loaded from a host pool.
        output_tokens: Produced by ended calls.
        ranking_version: Rankings that calibration has sent (rule Q4).
        learned: What is known of the sizes of programs, by class, where the policy
            learns them: what the ranking in force rests on.
    """

    at_s: float
    programs_open: int
    programs_ended: int
    anonymous_calls: int
    calls: CallCounts
    engines: Mapping[str, EngineSnapshot]
    wait_s: Mapping[WaitReason, float]
    service_s: float
    work_s: float
    level_occupancy: Sequence[int]
    demotions: int
    promotions: int
    preemptions: Mapping[PreemptionKind, int]
    prompt_tokens: int
    cached_device_tokens: int
    cached_host_tokens: int
    output_tokens: int
    ranking_version: int
    learned: IndexTable | None = None


@attrs.frozen(kw_only=True)
class Cut:
    """What was still under way when a runtime's block ended.

    Attributes:
        programs: Programs still in their block.
        calls: Calls that had not ended; they were cancelled.
        engines: Engines that had not given everything back when the time was up.
    """

    programs: int = 0
    calls: int = 0
    engines: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in words, as logs do."""
        said = {
            f"open programs: {self.programs}": self.programs,
            f"calls cancelled: {self.calls}": self.calls,
            f"engines still busy: {', '.join(self.engines)}": self.engines,
        }
        return "; ".join(words for words, is_so in said.items() if is_so) or "nothing"


@attrs.define(eq=False)
class Totals:
    """Running sums over programs and calls; the table drops them when they end."""

    programs_opened: int = 0
    programs_ended: int = 0
    anonymous_calls: int = 0
    retried: int = 0
    service_ns: int = 0
    work_ns: int = 0
    prompt_tokens: int = 0
    cached_device_tokens: int = 0
    cached_host_tokens: int = 0
    output_tokens: int = 0
    outcomes: Counter[Outcome] = attrs.field(factory=Counter)
    wait_ns: Counter[WaitReason] = attrs.field(factory=Counter)

    def add(self, report: CallReport, intake_ns: int) -> None:
        """Add a call that has ended."""
        self.outcomes[report.outcome] += 1
        self.service_ns += report.service_ns
        self.work_ns += report.work_ns
        self.prompt_tokens += report.prompt_tokens
        self.cached_device_tokens += report.cached_device_tokens
        self.cached_host_tokens += report.cached_host_tokens
        self.output_tokens += report.output_tokens
        for reason, waited_ns in report.wait_ns.items():
            self.wait_ns[reason] += waited_ns
        if intake_ns:
            self.wait_ns[WaitReason.INTAKE] += intake_ns

    def snapshot(
        self,
        fleet: Fleet,
        *,
        at_ns: int,
        in_intake: int,
        ranking_version: int,
        learned: IndexTable | None,
    ) -> Statistics:
        """Return the sums together with what the engines say now."""
        engines = {handle.name: _snapshot(handle) for handle in fleet}
        counters = [engine.counters for engine in engines.values()]
        preemptions: Counter[PreemptionKind] = Counter()
        for counted in counters:
            preemptions.update(counted.preemptions)
        return Statistics(
            at_s=at_ns / NS_PER_S,
            programs_open=self.programs_opened - self.programs_ended,
            programs_ended=self.programs_ended,
            anonymous_calls=self.anonymous_calls,
            calls=CallCounts(
                intake=in_intake,
                waiting=sum(counted.waiting for counted in counters),
                running=sum(counted.running for counted in counters),
                paused=sum(counted.paused for counted in counters),
                swapped=sum(counted.swapped for counted in counters),
                finished=self.outcomes[Outcome.FINISHED],
                cancelled=self.outcomes[Outcome.CANCELLED],
                failed=self.outcomes[Outcome.FAILED],
                retried=self.retried,
            ),
            engines=engines,
            wait_s={
                reason: self.wait_ns[reason] / NS_PER_S
                for reason in WaitReason
                if self.wait_ns[reason]
            },
            service_s=self.service_ns / NS_PER_S,
            work_s=self.work_ns / NS_PER_S,
            level_occupancy=_summed([engine.level_occupancy for engine in counters]),
            demotions=sum(counted.demotions for counted in counters),
            promotions=sum(counted.promotions for counted in counters),
            preemptions={kind: preemptions[kind] for kind in PreemptionKind},
            prompt_tokens=self.prompt_tokens,
            cached_device_tokens=self.cached_device_tokens,
            cached_host_tokens=self.cached_host_tokens,
            output_tokens=self.output_tokens,
            ranking_version=ranking_version,
            learned=learned,
        )


def _snapshot(handle: EngineHandle) -> EngineSnapshot:
    return EngineSnapshot(
        model=handle.engine.model,
        is_up=handle.is_up,
        calls=handle.calls,
        counters=handle.statistics(),
    )


def _summed(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    levels = max(map(len, rows), default=0)
    return tuple(
        sum(row[level] for row in rows if level < len(row)) for level in range(levels)
    )
