"""The calls of one engine and every change of their state, in one place.

``StepScheduler`` and ``Round`` decide; only ``Books`` and its ``Places`` change: who
runs and what each holds, and where calls stand. Each method is one transition of the
picture in docs/scheduler.md and leaves all books in agreement.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from autellix.core.call import Call, CallState
from autellix.core.facts import (
    Ended,
    FirstToken,
    Preempted,
    Resumed,
    Scheduled,
    about,
)
from autellix.core.fairness import Fairness
from autellix.core.places import Places
from autellix.core.prefix_tree import Lease
from autellix.core.records import (
    CallReport,
    Outcome,
    PreemptionKind,
    WaitReason,
)
from autellix.core.waiting import WaitLedger

if TYPE_CHECKING:
    from autellix.core.facts import Fact
    from autellix.core.found import Found
    from autellix.core.kv_blocks import KVBlocks
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallSpec

_RESUMED = {
    CallState.PAUSED: PreemptionKind.PAUSE,
    CallState.SWAPPED: PreemptionKind.SWAP,
    CallState.WAITING: PreemptionKind.DROP,
}


class Books:
    """State of one engine's calls.

    Attributes:
        calls: All live calls by id.
        running: Those that hold a slot.
        line: Those that do not; ``places`` has it.
        places: Where all of them stand in the order.
        retention: What of the cache is retained for them, and for their programs.
        preempted: Lost slot or blocks in this round; they join the line after it.
        released: Calls that gave up device blocks since the last plan.
        facts: What happened since they were last taken.
        totals: Counters for statistics.
    """

    def __init__(
        self, blocks: KVBlocks, policy: Policy, ranking: Ranking, retained_ns: int
    ) -> None:
        self.blocks = blocks
        self.policy = policy
        self.calls: dict[int, Call] = {}
        self.running: list[Call] = []
        self.preempted: list[Call] = []
        self.released: list[int] = []
        self.facts: list[Fact] = []
        self.totals: Counter[str] = Counter()
        self.preemptions: Counter[PreemptionKind] = Counter()
        self.ended_wait_ns: Counter[WaitReason] = Counter()
        self.waits = WaitLedger()
        self.fairness = Fairness(policy.beta)
        self.places = Places(
            blocks,
            policy,
            ranking,
            self.fairness,
            retained_ns=retained_ns,
            tell=self._tell,
            totals=self.totals,
        )
        self.line = self.places.line
        self.retention = self.places.retention

    def _tell(self, fact: Fact) -> None:
        self.facts.append(fact)

    # -- arriving and leaving ----------------------------------------------------

    def enter(self, spec: CallSpec, now_ns: int) -> Call:
        """Take a submitted call in and put it in the line."""
        placement = self.places.ranking.enter(spec.job, spec.inherited_ns)  # may raise
        call = Call(
            spec=spec,
            tokens=list(spec.prompt),
            lease=Lease(),
            submitted_ns=now_ns,
            accounted_ns=now_ns,
        )
        self.calls[call.call_id] = call
        self.fairness.enter(call, now_ns)
        self.places.place(call, placement)
        self.places.join(call)
        self.retention.forget(call.spec.program_id)
        self.waits.follow(call, now_ns)
        return call

    def end(self, call: Call, outcome: Outcome, now_ns: int) -> None:
        """End a call that is in no step: release, report, forget."""
        if call.state is CallState.RUNNING:
            call.book_wait(now_ns)
        else:
            self.leave_line(call, now_ns)
        self.blocks.publish(call)
        chain = call.lease.chain or call.lease.host_chain
        self.retention.end(call, chain, now_ns)
        self.blocks.release(call)
        self.released.append(call.call_id)
        call.state = CallState.ENDED
        self.places.end(call)
        del self.calls[call.call_id]
        report = self._report(call, outcome, now_ns)
        self.facts.append(Ended(report=report, **about(call, now_ns)))

    def _report(self, call: Call, outcome: Outcome, now_ns: int) -> CallReport:
        self._count(call)
        return CallReport(
            call_id=call.call_id,
            program_id=call.spec.program_id,
            outcome=outcome,
            submitted_ns=call.submitted_ns,
            ended_ns=now_ns,
            first_token_ns=call.first_token_ns,
            inherited_ns=call.spec.inherited_ns,
            service_ns=call.service_ns,
            work_ns=call.work_ns,
            wait_ns=call.wait_ns,
            prompt_tokens=len(call.spec.prompt),
            cached_device_tokens=call.cached_device_tokens,
            cached_host_tokens=call.cached_host_tokens,
            output_tokens=call.produced,
            computed_tokens=call.model_tokens,
            preemptions=call.preemptions,
            level=call.level,
            program=self.fairness.leave(call, now_ns),
        )

    def _count(self, call: Call) -> None:
        self.ended_wait_ns.update(call.wait_ns)
        totals = self.totals
        totals["prompt_tokens"] += len(call.spec.prompt)
        totals["cached_device_tokens"] += call.cached_device_tokens
        totals["cached_host_tokens"] += call.cached_host_tokens
        totals["output_tokens"] += call.produced
        totals["model_tokens"] += call.model_tokens
        totals["service_ns"] += call.service_ns

    # -- the line ----------------------------------------------------------------

    def leave_line(self, call: Call, now_ns: int) -> None:
        """Take a call out of the line, its wait booked."""
        self.places.leave(call)
        self.waits.leave(call, now_ns)

    def rejoin_preempted(self) -> None:
        """Let the calls preempted in this round join the line."""
        for call in self.preempted:
            self.places.join(call)
        self.preempted = []

    # -- slots and blocks --------------------------------------------------------

    def admit(self, call: Call, found: Found, tokens: int, now_ns: int) -> None:
        """Give a call of the line a slot, and blocks for ``tokens`` of it."""
        self.leave_line(call, now_ns)
        told = about(call, now_ns)
        if call.was_admitted:
            self.facts.append(Resumed(kind=_RESUMED[call.state], **told))
        else:
            call.cached_device_tokens = found.device * self.blocks.block_tokens
            call.cached_host_tokens = found.tokens - call.cached_device_tokens
            self.facts.append(
                Scheduled(cached_tokens=found.tokens, level=call.level, **told)
            )
        if call.state is not CallState.PAUSED:
            call.computed = found.tokens
        self.blocks.admit(call, found, tokens)
        call.state = CallState.RUNNING
        call.was_admitted = True
        call.skipped_since_ns = call.let_in_by_ns = None
        call.is_reserved = False
        self.places.reorder(call)

    def pause(self, call: Call, by: Call, now_ns: int) -> None:
        """Take the slot of a running call; its blocks stay."""
        call.book_wait(now_ns)
        call.wait_reason = WaitReason.PAUSED
        call.state = CallState.PAUSED
        self.preempted.append(call)
        self._preempt(call, PreemptionKind.PAUSE, by, now_ns)

    def evict(self, call: Call, by: Call, kind: PreemptionKind, now_ns: int) -> None:
        """Take the blocks, and the slot if it has one, of a resident call."""
        if call.order in self.line:
            self.leave_line(call, now_ns)
        else:
            call.book_wait(now_ns)
        call.wait_reason = WaitReason.BLOCKS
        if kind is PreemptionKind.SWAP:
            self.blocks.swap_out(call)
            call.state = CallState.SWAPPED
        else:
            self.blocks.drop(call)
            call.state = CallState.WAITING
            call.computed = 0
            call.is_recomputing = True
        self.released.append(call.call_id)
        self.places.reorder(call)
        if call not in self.preempted:
            self.preempted.append(call)
        self._preempt(call, kind, by, now_ns)

    def _preempt(self, call: Call, kind: PreemptionKind, by: Call, now_ns: int) -> None:
        call.preemptions[kind] = call.preemptions.get(kind, 0) + 1
        self.preemptions[kind] += 1
        told = about(call, now_ns)
        self.facts.append(Preempted(kind=kind, by=by.call_id, **told))

    def first_token(self, call: Call, now_ns: int) -> None:
        """Note the first token of a call."""
        call.first_token_ns = now_ns
        self.facts.append(FirstToken(**about(call, now_ns)))
