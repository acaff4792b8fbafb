"""What calls and programs used, summed by hand from the steps and facts of a run.

The core books lazily and once; this adds up everything again, whenever it is asked.
"""

from collections.abc import Iterable
from typing import NamedTuple

import attrs

from autellix.core.cost_model import CostModel
from autellix.core.facts import (
    Demoted,
    Ended,
    Fact,
    Preempted,
    Promoted,
    Raised,
    Resumed,
)
from autellix.core.plan import Plan
from autellix.core.records import (
    CallReport,
    CallSpec,
    Charge,
    FairnessWindow,
    PreemptionKind,
    WaitReason,
)

Span = tuple[int, int]


class Part(NamedTuple):
    """One call's part in one step."""

    forward: Span
    copied_ns: int
    tokens: int
    work_ns: int


@attrs.define(eq=False)
class Life:
    """One call, from its submission on."""

    spec: CallSpec
    submitted_ns: int
    ended_ns: int | None = None
    parts: list[Part] = attrs.field(factory=list)
    paused: list[Span] = attrs.field(factory=list)
    paused_at_ns: int | None = None
    was_dropped: bool = False

    @property
    def service_ns(self) -> int:
        return sum(end - start for (start, end), *_ in self.parts)

    @property
    def work_ns(self) -> int:
        return sum(part.work_ns for part in self.parts)

    def age_ns(self, charge: Charge) -> int:
        own = self.service_ns if charge is Charge.SERVICE else self.work_ns
        return self.spec.inherited_ns + own


class Ledger:
    """All calls that ever were on one engine."""

    def __init__(self, costs: CostModel) -> None:
        self.costs = costs
        self.lives: dict[int, Life] = {}
        self.promoted_ns: dict[int, int] = {}
        self.promoted: set[int] = set()

    def submitted(self, spec: CallSpec, now_ns: int) -> None:
        assert spec.call_id not in self.lives
        self.lives[spec.call_id] = Life(spec, now_ns)

    def ran(
        self, plan: Plan, forward_at_ns: int, ended_ns: int, *, repeats: int = 0
    ) -> None:
        """Take a step in, before it is committed; its plan ran ``repeats`` times."""
        copied_ns = forward_at_ns - plan.at_ns if plan.has_copies else 0
        for call, tokens in plan.calls:
            if call.computed and len(call.tokens) - call.computed == 1:
                work_ns = self.costs.decode_work_ns(call.computed + repeats)
            else:
                work_ns = self.costs.prefill_work_ns(call.computed, tokens)
            part = Part((forward_at_ns, ended_ns), copied_ns, tokens, work_ns)
            self.lives[call.call_id].parts.append(part)

    def take(self, facts: Iterable[Fact]) -> None:
        """Note what happened; each report must be what was seen here."""
        for fact in facts:
            life = self.lives[fact.call_id]
            assert life.ended_ns is None, f"something happened after the end: {fact}"
            goes_on = isinstance(fact, Resumed | Preempted | Ended)
            if goes_on and life.paused_at_ns is not None:
                life.paused.append((life.paused_at_ns, fact.at_ns))
                life.paused_at_ns = None
            if isinstance(fact, Preempted):
                life.was_dropped |= fact.kind is PreemptionKind.DROP
                if fact.kind is PreemptionKind.PAUSE:
                    life.paused_at_ns = fact.at_ns
            elif isinstance(fact, Promoted):
                self.promoted_ns[fact.program_id] = fact.at_ns
                self.promoted.add(fact.call_id)
            elif isinstance(fact, Demoted | Raised):
                self.promoted.discard(fact.call_id)
            elif isinstance(fact, Ended):
                life.ended_ns = fact.at_ns
                self._check(life, fact.report)

    def ended(self, program_id: int) -> list[Life]:
        """Return the calls of a program that have ended."""
        return [
            life
            for life in self.lives.values()
            if life.spec.program_id == program_id and life.ended_ns is not None
        ]

    def window(self, program_id: int, now_ns: int) -> FairnessWindow:
        """Return T and W since the last promotion, over the program's whole life."""
        return self._union(program_id, (self.promoted_ns.get(program_id, 0), now_ns))

    def lifetime(self, program_id: int, now_ns: int) -> FairnessWindow:
        """Return T and W over the program's whole life."""
        return self._union(program_id, (0, now_ns))

    def _union(self, program_id: int, within: Span) -> FairnessWindow:
        lives = [c for c in self.lives.values() if c.spec.program_id == program_id]
        ran_ns = _covered((part.forward for c in lives for part in c.parts), within)
        lived = [(c.submitted_ns, _or(c.ended_ns, within[1])) for c in lives]
        lived_ns = _covered(lived, within)
        return FairnessWindow(ran_ns=ran_ns, waited_ns=lived_ns - ran_ns)

    @staticmethod
    def _check(life: Life, report: CallReport) -> None:
        spec = life.spec
        assert report.inherited_ns == spec.inherited_ns
        assert report.submitted_ns == life.submitted_ns
        assert report.ended_ns == life.ended_ns
        assert report.service_ns == life.service_ns
        assert report.work_ns == life.work_ns
        assert report.computed_tokens == sum(part.tokens for part in life.parts)
        wait_ns = dict(report.wait_ns)
        lived_ns = report.ended_ns - report.submitted_ns
        assert report.service_ns + sum(wait_ns.values()) == lived_ns
        assert all(waited > 0 for waited in wait_ns.values())
        copied_ns = sum(part.copied_ns for part in life.parts)
        assert wait_ns.get(WaitReason.SWAP, 0) == copied_ns
        paused_ns = sum(end - start for start, end in life.paused)
        assert wait_ns.get(WaitReason.PAUSED, 0) == paused_ns
        cached = report.cached_device_tokens + report.cached_host_tokens
        assert 0 <= cached < len(spec.prompt)
        if not life.was_dropped:
            fed_back = max(0, report.output_tokens - 1)
            wanted = report.prompt_tokens - cached + fed_back
            is_whole = report.output_tokens > 0
            assert (
                report.computed_tokens == wanted
                if is_whole
                else (report.computed_tokens <= wanted)
            )


def _or(value: int | None, other: int) -> int:
    return other if value is None else value


def _covered(spans: Iterable[Span], within: Span) -> int:
    """Return how much of ``within`` lies in at least one of the spans."""
    covered, reached = 0, within[0]
    for span in sorted(spans):
        start, end = max(span[0], reached), min(span[1], within[1])
        if end > start:
            covered, reached = covered + end - start, end
    return covered
