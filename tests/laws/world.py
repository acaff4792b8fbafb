"""One engine's core with all that surrounds it, checked after everything it is told.

Step scheduler, KV blocks and process table are the real ones; the memory and the ledger
stand for the model and the clock. Whoever drives it brings the events and durations.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from operator import attrgetter

import pytest

from autellix.core.call import Call, CallState
from autellix.core.facts import Demoted, Ended, Fact, Promoted, Raised
from autellix.core.plan import Plan, Sampled
from autellix.core.process_table import ProcessTable
from autellix.core.ranking import InnerOrder, Ranking
from autellix.core.records import CallReport, Outcome
from tests.laws.ledger import Ledger
from tests.laws.memory import Memory
from tests.laws.picture import Picture
from tests.laws.plan_laws import check_plan
from tests.laws.program_laws import (
    Placed,
    check_placed,
    check_row,
    check_windows,
    placement_of,
    starving,
)
from tests.laws.retention_laws import check_retention
from tests.laws.setups import Setup
from tests.laws.transitions import Evictions, count_fact


class World:
    """A run of one engine.

    Attributes:
        now_ns: Never goes back.
        seen: How often each kind of thing happened.
        facts: All that happened, in order.
        transcripts: Tokens of every call that ended.
        paths_ns: Of every call that ended, for the ``after`` of those that follow it.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.scheduler = setup.scheduler()
        self.books = self.scheduler.books
        self.blocks = self.books.blocks
        self.memory = Memory(self.blocks)
        self.table = ProcessTable(setup.policy)
        self.ledger = Ledger(setup.costs)
        self.now_ns = 0
        self.seen: Counter[str] = Counter()
        self.facts: list[Fact] = []
        self.transcripts: list[Sequence[int]] = []
        self.paths_ns: dict[int, int] = {}
        self.plan_in_flight: Plan | None = None
        self._is_executed = False
        self._calls: dict[int, Call] = {}
        self._starts_ns: dict[int, int] = {}
        self._steps_left = 0

    @property
    def can_plan(self) -> bool:
        return self.plan_in_flight is None and self.scheduler.has_work

    # -- what comes in -----------------------------------------------------------

    def open(self, program_class: str, *, size_ns: int | None = None) -> int:
        return self.table.open(program_class, now_ns=self.now_ns, size_ns=size_ns)

    def close(self, program_id: int) -> None:
        """Leave a program: what it still has there is cancelled (A8)."""
        for call_id in self.live_calls(program_id):
            self.cancel(call_id)
        self.scheduler.forget(program_id, self.now_ns)
        is_gone = self.table.close(program_id)
        assert is_gone == (not self.live_calls(program_id))

    def submit(
        self,
        program_id: int,
        *,
        prompt: Sequence[int],
        max_tokens: int,
        after: Sequence[int] | None = None,
    ) -> int:
        before = self.table.view(program_id)
        spec = self.table.submit(
            program_id,
            prompt=prompt,
            max_tokens=max_tokens,
            now_ns=self.now_ns,
            after=after,
        )
        assert spec.inherited_ns == self.setup.policy.inherited_ns(before, after)
        self._starts_ns[spec.call_id] = (
            before.critical_path_ns if after is None else max(after, default=0)
        )
        call = self.scheduler.submit(spec, self.now_ns)
        self._calls[call.call_id] = call
        self.ledger.submitted(spec, self.now_ns)
        entered = self.books.places.ranking.enter(spec.job, spec.inherited_ns)
        assert placement_of(call) == entered
        self._take_facts()
        return spec.call_id

    def submit_too_large(self, program_id: int, excess: int) -> None:
        """Submit what can never fit: it is refused and leaves no trace (A4, S9)."""
        room = self.setup.device_blocks * self.setup.block_tokens
        spec = self.table.submit(
            program_id, prompt=[0] * room, max_tokens=excess, now_ns=self.now_ns
        )
        with pytest.raises(ValueError, match=f"needs {room + excess} tokens"):
            self.scheduler.submit(spec, self.now_ns)
        self.table.refuse(spec.call_id)
        assert not self._take_facts()
        self.seen["refusal"] += 1

    def cancel(self, call_id: int) -> None:
        """End a call from outside; twice is no error."""
        call = self._calls[call_id]
        is_live = call.state is not CallState.ENDED
        if is_live:
            where = "in step" if call.is_in_step else call.state.value
            self.seen[f"cancel {where}"] += 1
        assert self.scheduler.cancel(call_id, self.now_ns) == is_live
        ended_now = self._take_facts()
        wanted = [call_id] if is_live and not call.is_in_step else []
        assert [fact.call_id for fact in ended_now if isinstance(fact, Ended)] == wanted

    def update_ranking(self, ranking: Ranking) -> None:
        """Bring a new version: who waits stands where it says, all others stay (Q4)."""
        calls = dict(self.books.calls)
        before = {i: (call.order, placement_of(call)) for i, call in calls.items()}
        version = self.scheduler.ranking_version + 1
        moved = self.scheduler.update_ranking(version, ranking, self.now_ns)
        for i, call in calls.items():
            order, wanted = before[i]
            if call.state is not CallState.RUNNING and not call.is_promoted:
                job, age_ns = call.spec.job, self.books.places.age(call)
                wanted = ranking.review(job, age_ns, wanted.level) or wanted
            assert placement_of(call) == wanted
            has_moved = call.level != order[0]
            assert has_moved == (call in moved)
            assert has_moved or call.order == order
        levels = {call.level for call in moved}
        for by_level in ([c for c in moved if c.level == level] for level in levels):
            if self.setup.policy.inner_order is InnerOrder.LEVEL_ARRIVAL:
                assert by_level == sorted(by_level, key=attrgetter("order"))
        self._take_facts()
        self.seen["new version"] += 1
        self.seen["moved by a new version"] += len(moved)

    def live_calls(self, program_id: int) -> list[int]:
        calls = self.books.calls.values()
        return [c.call_id for c in calls if c.spec.program_id == program_id]

    # -- steps -------------------------------------------------------------------

    def plan(self, *, executes: bool = True) -> Plan:
        """Plan a step, checked by the laws of a plan."""
        is_round = self._steps_left <= 0 or not self.books.running
        self._steps_left = (
            self.setup.limits.round_steps if is_round else self._steps_left
        )
        self.books.retention.expire(self.now_ns)  # as the plan does, to be seen before
        picture = Picture(self.scheduler, is_round=is_round)
        wanted = starving(self.books, self.ledger, self.now_ns) if is_round else set()
        evictions = Evictions(self.blocks)
        plan = self.scheduler.plan(self.now_ns)
        facts = self._take_facts()
        picture.complete(plan, facts)
        check_plan(picture)
        check_retention(picture)
        self.seen += picture.kinds
        evictions.count(self.seen)
        promoted = {fact.call_id for fact in facts if isinstance(fact, Promoted)}
        assert promoted == wanted, f"promoted {promoted}, starving {wanted}"
        self.plan_in_flight, self._is_executed = plan, False
        self.memory.receive(plan)
        if executes:
            self._execute(plan)
        return plan

    def commit(
        self, *, forward_ns: int, copy_ns: int = 0, stops: Collection[int] = ()
    ) -> None:
        """Let the step in flight end; calls in ``stops`` end with their next token.

        Its time counts from the plan; if more has passed since, that is its time.
        """
        plan = self.plan_in_flight
        assert plan is not None
        if not self._is_executed:
            self._execute(plan)
        forward_at_ns = plan.at_ns + (copy_ns if plan.has_copies else 0)
        ended_ns = max(self.now_ns, forward_at_ns + forward_ns)
        samples = {
            call.call_id: Sampled(next_token(call.tokens), call.call_id in stops)
            for call, tokens in plan.calls
            if call.computed + tokens == len(call.tokens)
        }
        self.ledger.ran(plan, forward_at_ns, ended_ns)
        before = [(call, placement_of(call)) for call, _ in plan.calls]
        evictions = Evictions(self.blocks)
        self.scheduler.commit(
            plan, samples, forward_at_ns=forward_at_ns, ended_ns=ended_ns
        )
        evictions.count(self.seen)
        self._close_step(ended_ns, before)
        self.seen["write-back"] += len(self.blocks.host.writes)

    def commit_singly(self, durations_ns: Sequence[int]) -> None:
        """Let so many steps end one after the other; the first is in flight."""
        for place, duration_ns in enumerate(durations_ns):
            if place:
                self.plan()
            self.commit(forward_ns=duration_ns)

    def commit_window(self, durations_ns: Sequence[int]) -> None:
        """Let so many equal steps end at once; a window must have been offered."""
        plan = self.plan_in_flight
        assert plan is not None
        if not self._is_executed:
            self._execute(plan)
        steps, ended_ns = len(durations_ns), plan.at_ns
        for repeats, duration_ns in enumerate(durations_ns):
            end_ns = ended_ns + duration_ns
            self.ledger.ran(plan, ended_ns, end_ns, repeats=repeats)
            ended_ns = end_ns
        before = [(call, placement_of(call)) for call, _ in plan.calls]
        produced = {}
        for call, _ in plan.calls:
            tokens, start = list(call.tokens), call.computed
            for _ in range(steps):
                tokens.append(next_token(tokens))
            produced[call.call_id] = tokens[len(call.tokens) :]
            assert self.blocks.grow(call.lease, start + steps)
            self.memory.compute(call, tokens, start + 1, start + steps)
        self.scheduler.commit_window(plan, produced, ended_ns=ended_ns)
        self._close_step(ended_ns, before)
        self.seen["window"] += 1

    def check(self) -> None:
        """Check all that must hold at any time."""
        self.scheduler.check_invariants()
        self.table.check_invariants()
        if self.plan_in_flight is None or self._is_executed:
            self.memory.check(self.books.calls.values())
        check_windows(self.books, self.ledger)
        for view in self.table.views():
            check_row(view, self.ledger, self.paths_ns, self.now_ns)
        if self.plan_in_flight is None and not self.scheduler.has_work:
            self.check_rest()

    def finish(self, forward_ns: int = 10) -> None:
        """Let all calls end by themselves, and all blocks come to rest (K4, S5).

        However long a step is: what was dropped is not dropped again before it has
        produced a token, so what is lost is bounded by what is produced.
        """
        if self.plan_in_flight is not None:
            self.commit(forward_ns=forward_ns)
        calls = list(self.books.calls.values())
        work = sum(len(call.tokens) + call.remaining for call in calls)
        steps_left = 3 + work * (2 + sum(call.remaining for call in calls))
        while self.scheduler.has_work:
            self.plan()
            self.commit(forward_ns=forward_ns)
            self.check()
            steps_left -= 1
            assert steps_left, f"calls {list(calls)} do not come to an end"
        self.check_rest()

    def fail(self) -> None:
        """Let the engine fail: every call ends now."""
        live = len(self.books.calls)
        self.scheduler.end_all(Outcome.FAILED, self.now_ns)
        self.plan_in_flight = None
        assert sum(isinstance(f, Ended) for f in self._take_facts()) == live
        self.scheduler.check_invariants()
        self.check_rest()

    def check_rest(self) -> None:
        """With no calls nothing is referenced or moving, and every call has ended."""
        use = self.scheduler.statistics()
        for tier in (use.device, use.host):
            assert (tier.referenced, tier.moving) == (0, 0)
            assert tier.free + tier.cached == tier.total
        assert all(life.ended_ns is not None for life in self.ledger.lives.values())
        assert not self.books.line.all
        assert not len(self.books.fairness)

    # -- within ------------------------------------------------------------------

    def _execute(self, plan: Plan) -> None:
        self.memory.execute(plan)
        self._is_executed = True

    def _close_step(self, ended_ns: int, before: Sequence[Placed]) -> None:
        self.now_ns, self.plan_in_flight = ended_ns, None
        self._steps_left -= 1
        check_placed(self.books, self.ledger, before)
        self._take_facts()

    def _end(self, report: CallReport) -> None:
        call_id = report.call_id
        path_ns = self.paths_ns[call_id] = self.table.end(report)
        run_ns = report.run_ns(self.setup.policy.charge)
        assert path_ns == self._starts_ns[call_id] + run_ns
        self.transcripts.append(list(self._calls[call_id].tokens))
        assert report.computed_tokens == self.memory.entered[call_id]

    def _take_facts(self) -> list[Fact]:
        facts = self.scheduler.take_facts()
        self.facts += facts
        self.ledger.take(facts)
        for fact in facts:
            count_fact(self.seen, fact, self._calls[fact.call_id])
            if isinstance(fact, Demoted | Raised) and self.scheduler.ranking_version:
                self.seen["placed by a new version"] += 1
            if isinstance(fact, Ended):
                self._end(fact.report)
        return facts


def next_token(tokens: Sequence[int]) -> int:
    """Return what the model says after ``tokens``: of two tokens one."""
    return (sum(tokens) + len(tokens) // 3) % 2
