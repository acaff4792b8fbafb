"""What unfinished programs retain of the cache, and who has to wait for it (K7)."""

from collections.abc import Sequence

from autellix.core.call import CallState
from autellix.core.limits import StepLimits
from autellix.core.records import WaitReason
from autellix.policies import FCFS, PLAS, Ladder
from tests.laws.setups import COSTS, Setup
from tests.laws.world import World

POOL = 16
MOST_NS = COSTS.prefill_ns * POOL
"""How long a program between two calls retains: a whole pool computed."""
LEVELS = PLAS(ladder=Ladder(bounds_s=(1e-6,), quanta_s=(1e-6, 1.0)), beta=None)


def world(
    policy: FCFS | PLAS = FCFS(),  # noqa: B008 - frozen
    *,
    device_blocks: int = POOL,
    host_blocks: int = 0,
    retains: bool = True,
) -> World:
    """Return an engine with two slots, blocks of one token, and a pool of 16."""
    return World(
        Setup(
            policy=policy,
            ranking=policy.ranking(1_000),
            limits=StepLimits(slots=2, token_budget=16),
            costs=COSTS,
            device_blocks=device_blocks,
            host_blocks=host_blocks,
            block_tokens=1,
            shares_blocks=True,
            caches_prefixes=True,
            retains_prefixes=retains,
        )
    )


def step(one: World, *, forward_ns: int = 1) -> None:
    one.plan()
    one.commit(forward_ns=forward_ns)
    one.check()


def ran(one: World, program: int, prompt: Sequence[int], *, takes_ns: int = 1) -> None:
    """Let a call of one token come and end."""
    one.submit(program, prompt=prompt, max_tokens=1)
    step(one, forward_ns=takes_ns)


def runs(one: World, call_id: int) -> bool:
    return one.books.calls[call_id].state is CallState.RUNNING


A, B, C = [2] * 8, [3] * 8, [4] * 8
"""Prompts of eight tokens that share nothing, two of which fill the pool."""


def cached_tokens(one: World, program: int, prompt: Sequence[int]) -> int:
    """Return how many tokens the program's next call finds."""
    call_id = one.submit(program, prompt=[*prompt, 0], max_tokens=1)
    call = one.books.calls[call_id]
    step(one)
    return call.cached_device_tokens


def test_a_program_finds_its_prefix_again_after_others_came() -> None:
    """What programs that ended leave goes first, though it was used more recently."""
    for retains in (True, False):
        one = world(retains=retains)
        mine = one.open("mine")
        ran(one, mine, A)
        for prompt in (B, C):
            other = one.open("other")
            ran(one, other, prompt)
            one.close(other)
        assert (cached_tokens(one, mine, A) > 0) == retains


def test_a_newcomer_waits_for_memory_that_others_retain() -> None:
    """It is let in when a program ends, and not before; it waits for blocks."""
    one = world()
    first, second = one.open("first"), one.open("second")
    ran(one, first, A)
    busy = one.submit(second, prompt=[1], max_tokens=9)
    step(one)
    late = one.submit(one.open("late"), prompt=C, max_tokens=1)
    step(one)
    assert runs(one, busy)
    assert not runs(one, late)
    one.close(first)
    call = one.books.calls[late]
    step(one)
    assert call.was_admitted
    assert call.wait_ns[WaitReason.BLOCKS]


def test_what_runs_will_be_left_in_the_host_pool() -> None:
    """A newcomer counts it, though most of the host pool is free still."""
    for prompt, is_let_in in ((C[:6], True), (C[:7], False)):
        one = world(device_blocks=10, host_blocks=POOL)
        ran(one, one.open("away"), A)
        one.submit(one.open("busy"), prompt=[1], max_tokens=9)
        step(one)
        late = one.submit(one.open("late"), prompt=prompt, max_tokens=2)
        one.plan()
        assert one.blocks.host.free == POOL - len(A)
        assert runs(one, late) == is_let_in


def test_a_newcomer_has_an_engine_that_does_nothing_else() -> None:
    """However much is retained, somebody runs."""
    one = world()
    for prompt in (A, B):
        ran(one, one.open("idle"), prompt)
    late = one.submit(one.open("late"), prompt=C, max_tokens=1)
    call = one.books.calls[late]
    step(one)
    assert call.was_admitted


def test_a_program_that_is_away_for_long_retains_nothing() -> None:
    """For as long as a whole pool takes to compute, and not a nanosecond more."""
    for is_late in (False, True):
        one = world()
        ran(one, one.open("away"), A)
        away_since_ns = one.now_ns
        one.submit(one.open("busy"), prompt=[1], max_tokens=9)
        step(one)
        one.now_ns = away_since_ns + MOST_NS - 1 + is_late
        late = one.submit(one.open("late"), prompt=C, max_tokens=2)
        one.plan()
        assert runs(one, late) == is_late


def test_the_first_newcomer_does_not_wait_for_ever() -> None:
    """Room is kept for it, when it has been the first for as long."""
    one = world()
    one.submit(one.open("busy"), prompt=A, max_tokens=8)
    step(one)
    late = one.submit(one.open("late"), prompt=B, max_tokens=1)
    since_ns = one.now_ns
    step(one)
    for is_late in (False, True):
        one.now_ns = since_ns + MOST_NS - 1 + is_late
        one.plan()
        assert one.books.calls[late].is_reserved == is_late
        one.commit(forward_ns=0)


def test_a_newcomer_takes_from_programs_much_worse() -> None:
    """Rule S2's hysteresis holds for what is cached too."""
    for takes_ns, is_let_in in ((1, False), (2_000, True)):
        one = world(LEVELS)
        old = one.open("old")
        ran(one, old, A, takes_ns=takes_ns)
        one.submit(one.open("busy"), prompt=[1], max_tokens=9)
        step(one)
        waits = one.submit(old, prompt=[*A, 0], max_tokens=2)
        assert one.books.calls[waits].level == int(is_let_in)
        late = one.submit(one.open("late"), prompt=C, max_tokens=2)
        one.plan()
        assert runs(one, late) == is_let_in


def test_nothing_is_retained_where_it_is_not_to_be() -> None:
    """With the option off, the engine evicts what was used least recently."""
    one = world(retains=False)
    ran(one, one.open("away"), A)
    assert one.scheduler.statistics().device.retained == 0
    one = world()
    ran(one, one.open("away"), A)
    assert one.scheduler.statistics().device.retained == len(A)
