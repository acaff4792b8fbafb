"""The laws of the core, whatever happens in whatever order.

A machine submits, cancels, plans and commits on a small engine in which everything is
scarce; ``World`` checks after each rule. One machine for each policy; kinds of
transition are counted over all of them, and each must have happened.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import ClassVar

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

from autellix.core.ranking import Policy, Ranking
from autellix.core.window import Window
from tests.laws.setups import POLICIES, setups
from tests.laws.transitions import KINDS
from tests.laws.world import World

SHARE = {"MLFQ": 2.0, "PLAS": 2.0, "ATLAS": 1.0, "SRPT": 1.0}
"""How many times the usual number of examples; more where more can happen."""


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
    @rule(step_ns=st.integers(1, 20), most=st.integers(2, 12))
    def window(self, step_ns: int, most: int) -> None:
        """Take the next steps together as far as that is sure; same as singly (S10)."""
        world = self.world
        plan = world.plan()
        window = world.scheduler.window(plan)
        if window is None:
            world.commit(forward_ns=100 * step_ns)
            return
        durations = durations_of(window, plan.at_ns, 100 * step_ns)[:most]
        twin = deepcopy(world)
        twin.commit_singly(durations)
        world.commit_window(durations)
        assert twin.facts == world.facts
        rest = deepcopy(world)
        rest.finish()
        twin.finish()
        assert twin.facts == rest.facts

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
            is_long = len(self.world.ledger.lives) % 2
            self.world.finish(forward_ns=30_000 if is_long else 10)
        self.seen.update(self.world.seen)


def durations_of(window: Window, start_ns: int, step_ns: int) -> list[int]:
    """Return the durations of the equal steps that a window allows."""
    steps = 1
    while steps < window.steps:
        passed_ns = steps * step_ns
        if window.service_ns is not None and passed_ns >= window.service_ns:
            break
        if window.until_ns is not None and start_ns + passed_ns >= window.until_ns:
            break
        steps += 1
    return [step_ns] * steps


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
            usual = settings.default or settings()
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=int(SHARE.get(name, 0.6) * usual.max_examples),
                    report_multiple_bugs=False,
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
    assert not KINDS - set(+seen), KINDS - set(+seen)
