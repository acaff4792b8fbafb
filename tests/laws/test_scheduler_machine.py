"""The laws of the core, whatever happens in whatever order.

A machine submits, cancels, plans and commits on a small engine in which everything is
scarce; ``World`` checks after each rule. One machine for each policy; kinds of
transition are counted over all of them, and each must have happened.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from autellix.core.cost_model import CostModel
from autellix.core.limits import StepLimits
from autellix.core.ranking import InnerOrder, Policy, Ranking
from autellix.core.records import Charge
from autellix.policies import (
    ATLAS,
    FCFS,
    MLFQ,
    PLAS,
    SRPT,
    Ladder,
    ProgramFCFS,
    RemainingTable,
)
from tests.laws.world import Setup, World

STEP_NS = 16_000
LADDERS = (
    Ladder(bounds_s=(2e-6, 5e-6), quanta_s=(2e-6, 3e-6, 4e-6)),
    Ladder(bounds_s=(1e-6, 9e-6), quanta_s=(3e-6, 1e-6, 8e-6)),
)
TABLES = (
    SRPT(levels=5, ratio=2.0).ranking(STEP_NS),
    RemainingTable(bounds_s=(5e-7, 1e-6, 3e-6, 6e-6), hold_s=4e-6),
)
POLICIES: dict[str, tuple[Policy, Sequence[Ranking]]] = {
    "FCFS": (FCFS(), [FCFS().ranking(STEP_NS)] * 2),
    "ProgramFCFS": (ProgramFCFS(), [ProgramFCFS().ranking(STEP_NS)] * 2),
    "MLFQ": (MLFQ(beta=1.5), LADDERS),
    "PLAS": (PLAS(beta=0.75, inner_order=InnerOrder.PROGRAM_ARRIVAL), LADDERS),
    "ATLAS": (ATLAS(beta=2.0, charge=Charge.WORK), LADDERS),
    "SRPT": (SRPT(levels=5, ratio=2.0, beta=1.0), TABLES),
}
COSTS = CostModel(
    step_ns=1_000,
    prefill_ns=40,
    decode_ns=100,
    context_ns=3,
    pair_ps=700,
    transfer_ns=300,
    block_transfer_ns=60,
    nominal_batch=4,
)
KINDS = {
    "pause",
    "resume",
    "swap-out",
    "swap-in",
    "drop",
    "recompute",
    "promotion",
    "demotion",
    "raise",
    "reservation",
    "reserve",
    "growth yield",
    "self-yield",
    "forced progress",
    "cancel in step",
    "cancel running",
    "cancel waiting",
    "cancel paused",
    "cancel swapped",
    "device eviction",
    "host eviction",
    "device hit",
    "host hit",
    "write-back",
    "new version",
    "placed by a new version",
    "window",
    "refusal",
}


@st.composite
def setups(draw: st.DrawFn, policy: Policy, ranking: Ranking) -> Setup:
    """Draw an engine: a few slots, few blocks, in either layout."""
    slots = draw(st.sampled_from([1, 2, 2, 3, 4]))
    return Setup(
        policy=policy,
        ranking=ranking,
        limits=StepLimits(
            slots=slots,
            token_budget=slots + draw(st.integers(0, 6)),
            lookahead=draw(st.sampled_from([1, 1, 2, 3])),
            hysteresis_levels=draw(st.integers(1, 2)),
            reserve_after_ns=draw(st.sampled_from([0, 3_000, 30_000])),
            round_steps=draw(st.sampled_from([1, 3])),
        ),
        costs=attrs.evolve(
            COSTS, block_transfer_ns=draw(st.sampled_from([60, 60, 6_000]))
        ),
        device_blocks=draw(st.sampled_from([5, 8, 12, 20])),
        host_blocks=draw(st.sampled_from([0, 2, 5, 12])),
        block_tokens=draw(st.integers(1, 3)),
        shares_blocks=draw(st.booleans()),
        caches_prefixes=draw(st.sampled_from([True, True, False])),
    )


class SchedulerMachine(RuleBasedStateMachine):
    """Everything that can happen to one engine."""

    policy: ClassVar[Policy]
    rankings: ClassVar[Sequence[Ranking]]
    seen: ClassVar[Counter[str]]

    programs: Bundle[int] = Bundle("programs")
    calls: Bundle[int] = Bundle("calls")

    @initialize(target=programs, data=st.data())
    def start(self, data: st.DataObject) -> int:
        self.world = World(data.draw(setups(self.policy, self.rankings[0])))
        return self.world.open("a", size_ns=10_000)

    # -- what comes in -----------------------------------------------------------

    @precondition(lambda self: len(self.world.table) < 4)
    @rule(target=programs, name=st.sampled_from("ab"), size=st.integers(1, 40))
    def open(self, name: str, size: int) -> int:
        return self.world.open(name, size_ns=size * 500)

    @precondition(lambda self: len(self.world.table) > 1)
    @rule(program=consumes(programs))
    def close(self, program: int) -> None:
        self.world.close(program)

    @precondition(lambda self: len(self.world.books.calls) < 8)
    @rule(
        target=calls,
        program=programs,
        base=st.integers(0, 15),
        kept=st.integers(0, 30),
        branches=st.lists(
            st.lists(st.integers(0, 1), min_size=1, max_size=7), min_size=1, max_size=3
        ),
        filled=st.sampled_from([0, 0, 0, 0.6, 0.9]),
        max_tokens=st.integers(1, 12),
        follows=st.sampled_from([None, None, 0, 1, 2]),
    )
    def submit(
        self,
        program: int,
        base: int,
        kept: int,
        branches: list[list[int]],
        filled: float,
        max_tokens: int,
        follows: int | None,
    ) -> MultipleResults[int]:
        """Submit branches that may go on from an earlier call's tokens."""
        world = self.world
        room = world.setup.device_blocks * world.setup.block_tokens
        start = world.transcripts[-1 - base :][:1] if base < 10 else []
        shared = [token for tokens in start for token in tokens[:kept]]
        paths = list(world.paths_ns.values())
        after = None if follows is None else paths[len(paths) - follows :]
        submitted = []
        for fresh in branches:
            large = fresh * int(filled * room)
            prompt = (shared + (large[: int(filled * room)] or fresh))[: room - 1]
            most = min(max_tokens, room - len(prompt))
            submitted.append(
                world.submit(program, prompt=prompt, max_tokens=most, after=after)
            )
        return multiple(*submitted)

    @precondition(lambda self: not self.world.seen["refusal"])
    @rule(program=programs, excess=st.integers(1, 3))
    def submit_too_large(self, program: int, excess: int) -> None:
        self.world.submit_too_large(program, excess)

    @precondition(lambda self: len(self.world.books.calls) > 2)
    @rule(call=calls)
    def cancel(self, call: int) -> None:
        self.world.cancel(call)

    @precondition(lambda self: self.world.seen["new version"] < 3)
    @rule()
    def update_ranking(self) -> None:
        version = self.world.scheduler.ranking_version + 1
        self.world.update_ranking(self.rankings[version % 2])

    @rule(idle_ns=st.integers(1, 4_000))
    def pass_time(self, idle_ns: int) -> None:
        self.world.now_ns += idle_ns

    # -- steps -------------------------------------------------------------------

    @precondition(lambda self: self.world.can_plan)
    @rule(executes=st.booleans())
    def plan(self, executes: bool) -> None:
        self.world.plan(executes=executes)

    @precondition(lambda self: self.world.plan_in_flight is not None)
    @rule(
        forward_ns=st.integers(1, 30),
        copy_ns=st.integers(0, 9),
        stopped=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def commit(self, forward_ns: int, copy_ns: int, stopped: int) -> None:
        plan = self.world.plan_in_flight
        assert plan is not None
        stops = [call.call_id for call, _ in plan.calls[:stopped]]
        self.world.commit(
            forward_ns=100 * forward_ns, copy_ns=100 * copy_ns, stops=stops
        )

    @precondition(lambda self: self.world.can_plan)
    @rule(forward_ns=st.lists(st.integers(1, 30), min_size=1, max_size=9))
    def steps(self, forward_ns: list[int]) -> None:
        for duration in forward_ns:
            if self.world.can_plan:
                self.world.plan()
                self.world.commit(forward_ns=100 * duration, copy_ns=duration)
                self.world.check()

    @precondition(lambda self: self.world.can_plan)
    @rule(step_ns=st.integers(1, 20))
    def window(self, step_ns: int) -> None:
        """Take the next steps together, as far as that is sure."""
        plan = self.world.plan()
        window = self.world.scheduler.window(plan)
        if window is None:
            self.world.commit(forward_ns=100 * step_ns)
            return
        durations = [100 * step_ns]
        while len(durations) < window.steps:
            passed = sum(durations)
            if window.service_ns is not None and passed >= window.service_ns:
                break
            if window.until_ns is not None and plan.at_ns + passed >= window.until_ns:
                break
            durations.append(100 * step_ns)
        self.world.commit_window(durations)

    # -- what must hold ----------------------------------------------------------

    @invariant()
    def laws_hold(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            return  # do not hide what went wrong before
        if len(self.world.ledger.lives) % 8 == 7 and not self.world.plan_in_flight:
            self.world.fail()
        else:
            self.world.finish()
        self.seen.update(self.world.seen)


class Runs:
    """Each policy's machine, run once; what they saw together."""

    def __init__(self) -> None:
        self.seen: dict[str, Counter[str]] = {}

    def of(self, name: str) -> Counter[str]:
        if name not in self.seen:
            policy, rankings = POLICIES[name]
            seen: Counter[str] = Counter()
            fields = {"policy": policy, "rankings": rankings, "seen": seen}
            machine = type(f"{name}Machine", (SchedulerMachine,), fields)
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=60, stateful_step_count=60, report_multiple_bugs=False
                ),
            )
            self.seen[name] = seen
        return self.seen[name]


@pytest.fixture(scope="module")
def runs() -> Runs:
    return Runs()


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_the_laws_hold_under_every_policy(name: str, runs: Runs) -> None:
    """No order of events breaks a law."""
    assert runs.of(name)["device hit"]


@pytest.mark.slow
def test_every_kind_of_transition_has_happened(runs: Runs) -> None:
    """The machine reaches what it is there to test."""
    seen = sum((runs.of(name) for name in POLICIES), Counter[str]())
    assert not KINDS - set(+seen), dict(seen)
