"""A step scheduler too plain to be wrong: docs/scheduler.md without prefix cache."""

from collections.abc import Iterator
from fractions import Fraction
from math import floor

import attrs

from autellix.core.cost_model import CostModel
from autellix.core.ranking import InnerOrder, Placement, Ranking
from autellix.core.records import CallSpec, Charge
from tests.laws.reference_records import NEVER, Call, Limits


@attrs.define(eq=False)
class Reference:
    limits: Limits
    ranking: Ranking = attrs.field(alias="policy_ranking")
    inner_order: InnerOrder
    beta: float | None
    charge: Charge
    costs: CostModel
    calls: dict[int, Call] = attrs.field(init=False, factory=dict)
    windows: dict[int, list[int]] = attrs.field(init=False, factory=dict)  # T and W
    step: dict[int, int] = attrs.field(init=False, factory=dict)  # in flight
    order: list[Call] = attrs.field(init=False, factory=list)  # as the pass began
    now_ns: int = attrs.field(init=False, default=0)
    drawn: int = attrs.field(init=False, default=0)  # running numbers
    steps: int = attrs.field(init=False, default=0)  # since the round; 0: this is one

    def submit(self, spec: CallSpec, now_ns: int) -> None:
        self._tick(now_ns, 0)
        if all(c.spec.program_id != spec.program_id for c in self.calls.values()):
            self.windows[spec.program_id] = [spec.window.ran_ns, spec.window.waited_ns]
        c = Call(spec, spec.inherited_ns, len(spec.prompt), spec.max_tokens)
        self.calls[spec.call_id] = c
        self._place(c, self.ranking.enter(spec.job, c.age_ns))

    def cancel(self, call_id: int) -> None:
        self.calls[call_id].left = 0
        if call_id not in self.step:
            del self.calls[call_id]

    def states(self) -> dict[int, tuple[str, int, int, int, int]]:
        return {call_id: c.seen() for call_id, c in self.calls.items()}

    def plan(self, now_ns: int) -> dict[int, int]:
        self._tick(now_ns, 0)
        is_idle = all(c.state != "running" for c in self.calls.values())
        if is_idle or self.steps >= self.limits.round_steps:
            self.steps = 0
            self._promote()
            for c in self.calls.values():
                is_due = now_ns - c.skipped_since_ns >= self.limits.reserve_after_ns
                c.is_reserved |= is_due and not c.blocks
        self.order = sorted(self.calls.values(), key=Call.rank)
        self._pass()
        if self.order and not self.step:
            self._run(min(self.order, key=lambda c: (-c.is_whole, not c.blocks)))
        self.steps += 1
        return dict(self.step)

    def commit(self, forward_ns: int, ended: set[int], now_ns: int) -> None:
        self._tick(now_ns, forward_ns)
        for i, n in self.step.items():
            c = self.calls[i]
            work_ns = self.costs.prefill_work_ns(c.computed, n)
            if c.is_decoder:
                work_ns = self.costs.decode_work_ns(c.computed)
            c.age_ns += forward_ns if self.charge is Charge.SERVICE else work_ns
            c.computed, c.new = c.computed + n, c.new - n
            if c.new == 0:
                c.new, c.produced, c.is_recomputing = 1, c.produced + 1, False
                c.left = 0 if i in ended else c.left - 1
            if c.left <= 0:
                del self.calls[i]
            elif c.at.expires_at_ns is not None and c.age_ns >= c.at.expires_at_ns:
                self._place(c, self.ranking.expire(c.spec.job, c.age_ns, c.at.level))
        self.step = {}

    def _tick(self, now_ns: int, forward_ns: int) -> None:
        in_step = {self.calls[i].spec.program_id for i in self.step}
        for i, window in self.windows.items():
            ran_ns = forward_ns if i in in_step else 0
            window[0] += ran_ns
            window[1] += now_ns - self.now_ns - ran_ns
        self.now_ns = now_ns

    def _place(self, c: Call, at: Placement) -> None:
        self.drawn += 1
        is_by_program = self.inner_order is InnerOrder.PROGRAM_ARRIVAL
        c.is_promoted = False
        c.at, c.inner = at, (c.spec.job.program_arrival * is_by_program, self.drawn)

    def _promote(self) -> None:
        if self.beta is None:
            return
        calls = [c for c in self.calls.values() if c.state != "running" and c.at.level]
        running = [c for c in self.calls.values() if c.state == "running"]
        room = max(1, floor(len(running) / (1 + Fraction(self.beta))))
        room -= sum(c.is_promoted for c in self.calls.values())
        for i, (ran_ns, waited_ns) in sorted(self.windows.items()):
            stuck = [c for c in calls if c.spec.program_id == i]
            floor_ns = max(ran_ns, self.ranking.first_quantum_ns)
            if stuck and room > 0 and waited_ns >= self.beta * floor_ns:
                self.windows[i] = [0, 0]
                for c in sorted(stuck, key=Call.rank)[:room]:
                    self._place(c, self.ranking.promote(c.spec.job, c.age_ns))
                    c.is_promoted, room = True, room - 1

    def _pass(self) -> None:
        tries, is_kept = self.limits.lookahead, False
        for c, state in [(c, c.state) for c in self.order]:
            if c.state != state:
                continue  # preempted in this pass: not tried again in it
            if state == "running":
                self._run(c)
            elif tries > 0 and (state == "paused" or not (is_kept or self.steps)):
                tries -= self._admit(c)
                is_kept |= c.is_reserved  # still is: it has missed

    def _run(self, c: Call) -> None:
        behind = [v for v in self.order[: self.order.index(c) : -1] if v.blocks]
        behind.sort(key=lambda v: v.is_recomputing)
        n = self._chunk(c)
        if n and not self._enter(c, n, iter(behind)):
            self._evict(c)

    def _admit(self, c: Call) -> int:  # how many of the round's misses this used up
        floor = NEVER if self.steps else c.at.level + self.limits.hysteresis_levels
        worse = [v for v in self.order[::-1] if v.blocks and v.at.level >= floor]
        running = [v for v in self.order if v.state == "running"]
        giver = running[-1] if len(running) == self.limits.slots else None
        if giver and giver not in worse:
            return self.limits.lookahead
        before = [(v, vars(v).copy()) for v in worse]
        if giver:
            giver.state = "paused"
        worse.sort(key=lambda v: v is not giver)
        n = self._chunk(c)
        if n and self._enter(c, n, filter(self._pays, worse)):
            return 0
        for v, old in before:
            vars(v).update(old)
        c.skipped_since_ns = min(c.skipped_since_ns, self.now_ns)
        return 1

    def _chunk(self, c: Call) -> int:
        others = [v for v in self.order if v is not c and v.state == "running"]
        owed = sum(v.is_decoder and v.spec.call_id not in self.step for v in others)
        return min(c.new, self.limits.token_budget - sum(self.step.values()) - owed)

    def _enter(self, c: Call, n: int, victims: Iterator[Call]) -> bool:
        is_ahead = c.is_decoder and not self.steps
        ahead = min(self.limits.round_steps, c.left) if is_ahead else n
        ahead = c.new if c.is_recomputing else ahead
        more = max(0, self.limits.blocks(c.computed + ahead) - c.blocks)
        while more + sum(v.blocks for v in self.order) > self.limits.device_blocks:
            if (victim := next(victims, None)) is None:
                return False
            self._evict(victim)
        c.state, c.blocks, self.step[c.spec.call_id] = "running", c.blocks + more, n
        c.is_reserved, c.skipped_since_ns = False, NEVER
        return True

    def _evict(self, v: Call) -> None:
        v.state, v.blocks = ("swapped" if self._swaps(v) else "waiting"), 0
        if v.state == "waiting":
            v.computed, v.new, v.is_recomputing = 0, v.computed + v.new, True

    def _pays(self, v: Call) -> bool:
        swap_ns = 2 * self.costs.transfer_time_ns(v.blocks)
        cost_ns = swap_ns if self._swaps(v) else self.costs.recompute_ns(v.computed)
        return not v.is_recomputing and cost_ns < v.left * self.costs.single_step_ns()

    def _swaps(self, v: Call) -> bool:
        hosted = [c.computed for c in self.order if c.state == "swapped"] + [v.computed]
        has_room = sum(map(self.limits.blocks, hosted)) <= self.limits.host_blocks
        return has_room and self.costs.is_swap_cheaper(v.blocks, v.computed)
