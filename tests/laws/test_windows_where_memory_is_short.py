"""Steps together are steps one after the other, where programs retain (S10, K7).

The machine draws such windows seldom. These runs are made of little else: from numbered
seeds, so that those in which the two once differed are run for good.
"""

from copy import deepcopy
from random import Random

import attrs
import pytest

from autellix.core.limits import StepLimits
from tests.laws.setups import COSTS, POLICIES, Setup
from tests.laws.test_scheduler_machine import durations_of
from tests.laws.world import World

ONCE_DIFFERED = (100, 196, 383, 746, 868)


@attrs.define
class Drive:
    """A run of one small engine, all of it drawn from a seed."""

    draw: Random
    world: World
    known: dict[int, list[int]] = attrs.field(factory=dict)
    """Of each open program, what its next prompt begins with."""
    windows: int = 0

    @classmethod
    def of(cls, seed: int) -> "Drive":
        draw = Random(seed)
        policy, rankings = POLICIES[draw.choice(sorted(POLICIES))]
        slots = draw.choice([1, 2, 2, 3, 4])
        setup = Setup(
            policy=policy,
            ranking=rankings[0],
            limits=StepLimits(
                slots=slots,
                token_budget=slots + 16,
                lookahead=draw.choice([1, 2, 3, 16]),
                hysteresis_levels=draw.choice([1, 1, 2]),
                reserve_after_ns=draw.choice([0, 3_000, 30_000]),
            ),
            costs=COSTS,
            device_blocks=draw.choice([10, 16, 24]),
            host_blocks=draw.choice([0, 5, 30, 40]),
            block_tokens=draw.choice([1, 1, 2, 3]),
            shares_blocks=draw.random() < 0.8,
            caches_prefixes=True,
            retains_prefixes=True,
        )
        return cls(draw, World(setup))

    @property
    def room_tokens(self) -> int:
        return self.world.setup.device_blocks * self.world.setup.block_tokens

    def act(self) -> None:
        chance = self.draw.random()
        if chance < 0.4 and len(self.world.books.calls) < 12:
            self.submit()
        elif chance < 0.43 and self.known:
            program = self.draw.choice(sorted(self.known))
            del self.known[program]
            self.world.close(program)
        elif self.world.can_plan:
            self.step()

    def tokens(self, most: int) -> list[int]:
        return [self.draw.randrange(2) for _ in range(self.draw.randrange(1, most + 1))]

    def submit(self) -> None:
        half = self.room_tokens // 2
        if len(self.known) < 8 and (not self.known or self.draw.random() < 0.5):
            size_ns = self.draw.choice([1_000, 6_000, 20_000])
            self.known[self.world.open("a", size_ns=size_ns)] = self.tokens(half)
        program = self.draw.choice(sorted(self.known))
        is_new = self.draw.random() < 0.2
        prompt = self.tokens(half) if is_new else self.known[program] + self.tokens(2)
        most = self.draw.choice([1, 2, 6, 12])
        if len(prompt) + most <= self.room_tokens:
            self.world.submit(program, prompt=prompt, max_tokens=most)

    def step(self) -> None:
        world, step_ns = self.world, self.draw.choice([100, 1_000, 4_000])
        plan = world.plan()
        window = world.scheduler.window(plan)
        if window is None:
            world.commit(forward_ns=step_ns)
        else:
            durations = durations_of(window, plan.at_ns, step_ns)
            twin = deepcopy(world)
            twin.commit_singly(durations)
            world.commit_window(durations)
            assert pictured(world) == pictured(twin)
            self.windows += 1
        for call, _ in plan.calls:
            if call.spec.program_id in self.known:
                kept = self.room_tokens * 2 // 3
                self.known[call.spec.program_id] = list(call.tokens)[:kept]


def pictured(world: World) -> list[object]:
    """Return all of a world that the next decisions rest on."""
    books, blocks = world.books, world.blocks
    return [
        world.facts,
        books.line.all,
        books.line.returning,
        sorted(books.retention.held),
        [call.call_id for call in books.retention.turned_away],
        [tier.available for tier in (blocks.device, blocks.host)],
        [(c.call_id, c.state, c.order, c.tokens) for c in books.calls.values()],
    ]


@pytest.mark.parametrize("seeds", [ONCE_DIFFERED, range(40), range(40, 80)])
def test_steps_together_are_steps_one_after_the_other(seeds: tuple[int, ...]) -> None:
    """Whatever has been decided, and is known, is the same after both."""
    windows = 0
    for seed in seeds:
        drive = Drive.of(seed)
        for _ in range(60):
            drive.act()
        windows += drive.windows
    assert windows > len(seeds)
