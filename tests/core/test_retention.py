"""What unfinished programs retain of the cache, and who has to wait for it (K7)."""

from collections.abc import Sequence

from autellix.core.call import Call, CallState
from autellix.core.limits import StepLimits
from autellix.core.records import WaitReason
from autellix.core.round import Round
from autellix.policies import FCFS, PLAS, Ladder, ProgramFCFS
from tests.laws.setups import COSTS, Setup
from tests.laws.world import World, next_token

POOL = 16
MOST_NS = COSTS.prefill_ns * POOL
"""How long a program between two calls retains: a whole pool computed."""
LEVELS = PLAS(ladder=Ladder(bounds_s=(1e-6,), quanta_s=(1e-6, 1.0)), beta=None)


def world(
    policy: FCFS | PLAS | ProgramFCFS = FCFS(),  # noqa: B008 - frozen
    *,
    device_blocks: int = POOL,
    host_blocks: int = 0,
    slots: int = 2,
    lookahead: int = 16,
    retains: bool = True,
) -> World:
    """Return an engine with few slots, blocks of one token, and a pool of 16."""
    return World(
        Setup(
            policy=policy,
            ranking=policy.ranking(1_000),
            limits=StepLimits(slots=slots, token_budget=16, lookahead=lookahead),
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


def test_rounds_that_do_not_come_to_a_newcomer_do_not_start_its_clock_anew() -> None:
    """Two programs that always come back fill all slots now and then: it gets in."""
    one = world(device_blocks=32)
    first, second = one.open("first"), one.open("second")
    prompts = {first: [2] * 8, second: [3] * 8}
    live = {}
    for program, prompt in prompts.items():
        live[program] = one.submit(program, prompt=prompt, max_tokens=6)
        for _ in range(3):
            step(one)
    late = one.submit(one.open("late"), prompt=[4] * 20, max_tokens=1)
    for _ in range(60):
        step(one, forward_ns=100)
        for program, call_id in live.items():
            if call_id not in one.books.calls:
                prompt = prompts[program]
                live[program] = one.submit(program, prompt=prompt, max_tokens=6)
    assert late not in one.books.calls
    assert one.books.totals["reservations"]


def test_a_program_keeps_its_whole_prefix_in_the_host_pool() -> None:
    """What a call adds is not written at the expense of what it began with."""
    one = world(device_blocks=12, host_blocks=POOL)
    mine = one.open("mine")
    ran(one, mine, A[:4])
    for prompt in (B, C[:4]):
        ran(one, one.open("other"), prompt)
    ran(one, mine, [*A[:4], *[7] * 4])
    while one.scheduler.has_work:
        step(one)
    node, hosted = one.blocks.tree.root, []
    for token in [*A[:4], *[7] * 4]:
        node = node.children[token,]
        hosted.append(node.host is not None)
    assert all(hosted[:4])
    assert hosted == sorted(hosted, reverse=True)


def test_a_sibling_does_not_cost_a_program_what_it_retains() -> None:
    """Neither one that is cancelled before it ran, nor one for which room is kept."""
    one = world()
    program = one.open("wide")
    one.submit(program, prompt=A, max_tokens=1)
    one.submit(one.open("busy"), prompt=[1], max_tokens=9)
    waits = one.submit(program, prompt=B[:4], max_tokens=1)
    one.plan()
    one.commit(forward_ns=1)
    call = one.books.calls[waits]
    call.skipped_since_ns = one.now_ns
    one.books.places.reserve(call, one.now_ns)
    assert program in one.books.retention
    one.cancel(waits)
    assert program in one.books.retention


def test_blocks_that_a_newcomer_finds_are_not_room_for_it() -> None:
    """Six of thirteen are there: it needs the others beside them."""
    one = world()
    ended = one.open("ended")
    ran(one, ended, C[:6])
    one.close(ended)
    ran(one, one.open("away"), A[:7])
    one.submit(one.open("busy"), prompt=[1], max_tokens=9)
    step(one)
    late = one.submit(one.open("late"), prompt=[*C[:6], *[9] * 7], max_tokens=2)
    one.plan()
    assert not runs(one, late)


def test_the_last_in_the_order_loses_first_whoever_waits() -> None:
    """A younger program between two calls before an older one whose call waits."""
    one = world(ProgramFCFS())
    old, young = one.open("old"), one.open("young")
    ran(one, old, A[:5])
    ran(one, young, B[:5])
    busy = [one.submit(one.open("busy"), prompt=[1], max_tokens=12) for _ in range(2)]
    step(one)
    waits = one.submit(old, prompt=[*A[:5], 0], max_tokens=1)
    one.plan()
    assert all(runs(one, call_id) for call_id in busy)
    retention = one.books.retention
    retention._lose_last()
    assert one.books.calls[waits].order in retention.held
    assert young not in retention or len(retention.held) == 1


def continuation(one: World, call_id: int, tokens: int) -> list[int]:
    """Return what a call is going to hold when it is so long."""
    known = list(one.books.calls[call_id].tokens)
    while len(known) < tokens:
        known.append(next_token(known))
    return known


def let_in_ns(one: World, call_id: int, *, takes_windows: bool) -> int:
    """Return when a call has ended."""
    while call_id in one.books.calls:
        plan = one.plan()
        window = one.scheduler.window(plan) if takes_windows else None
        if window is None:
            one.commit(forward_ns=1)
        else:
            one.commit_window([1] * min(window.steps, 5))
    return one.now_ns


def test_steps_together_end_where_a_newcomer_finds_its_prompt() -> None:
    """One that runs computes what it begins with, and so it is returning (S10)."""
    ends_ns = []
    for takes_windows in (False, True):
        one = world(device_blocks=40)
        ran(one, one.open("away"), [5] * 24)
        runner = one.submit(one.open("runs"), prompt=[1], max_tokens=14)
        step(one)
        prompt = [*continuation(one, runner, 15)[:9], *[9] * 9]
        late = one.submit(one.open("late"), prompt=prompt, max_tokens=1)
        ends_ns.append(let_in_ns(one, late, takes_windows=takes_windows))
    assert ends_ns[0] == ends_ns[1]


def test_steps_together_end_so_behind_one_that_is_passed_over() -> None:
    """It is no miss: who stands behind it is tried, however few may miss (S10)."""
    ends_ns = []
    for takes_windows in (False, True):
        one = world(LEVELS, device_blocks=40, slots=4, lookahead=1)
        long = ran_long(one, [5])
        ran(one, one.open("away"), [6] * 24)
        runner = one.submit(one.open("runs"), prompt=[1], max_tokens=14)
        step(one)
        promoted(one, long, [7] * 20)
        prompt = [*continuation(one, runner, 15)[:9], *[9] * 9]
        late = one.submit(one.open("late"), prompt=prompt, max_tokens=1)
        ends_ns.append(let_in_ns(one, late, takes_windows=takes_windows))
    assert ends_ns[0] == ends_ns[1]


def test_the_newcomer_with_least_to_spare_bounds_steps_together() -> None:
    """Also where it would be turned away with less room than none (S10)."""
    for first, second in ((0, 3), (3, 0)):
        one = world()
        scheduler = one.scheduler
        decision = Round(
            books=one.books,
            limits=scheduler.limits,
            preemption=scheduler._preemption,
            now_ns=0,
            is_decision=True,
        )
        for slack in (first, second):
            decision._watch_room(one.books.retention.room() + slack)
        assert decision.least_room == 0


def test_one_newcomer_is_turned_away_in_a_pass() -> None:
    """A call that loses in the pass what it retained is not tried as another."""
    one = world(slots=4)
    first, second = one.open("first"), one.open("second")
    ran(one, first, A[:4])
    ran(one, second, B[:4])
    one.submit(one.open("busy"), prompt=[1] * 3, max_tokens=9)
    for _ in range(2):
        step(one)
    late = one.submit(one.open("late"), prompt=[5] * 14, max_tokens=1)
    step(one, forward_ns=5)
    one.submit(first, prompt=[*A[:4], *[6] * 4], max_tokens=2)
    one.submit(second, prompt=[*B[:4], *[7] * 4], max_tokens=2)
    one.plan()
    assert [c.call_id for c in one.books.retention.turned_away] == [late]


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


def ran_long(one: World, prompt: Sequence[int]) -> int:
    """Return a program that is on level 1 now."""
    program = one.open("long")
    ran(one, program, prompt, takes_ns=2_000)
    return program


def promoted(one: World, program: int, prompt: Sequence[int]) -> Call:
    """Return the next call of a program, which is promoted."""
    call = one.books.calls[one.submit(program, prompt=prompt, max_tokens=2)]
    call.clock.restart()
    one.books.places.promote(call, one.now_ns)
    one._take_facts()
    return call


def test_a_promoted_newcomer_takes_only_what_nobody_retains() -> None:
    """Where there is too little of that it lets others pass."""
    one = world(LEVELS, slots=4)
    one.submit(one.open("busy"), prompt=[1], max_tokens=9)
    program, old = ran_long(one, [5]), ran_long(one, A)
    call = promoted(one, program, C)
    small = one.submit(one.open("small"), prompt=[9], max_tokens=5)
    step(one)
    assert runs(one, small)
    assert not call.was_admitted
    assert old in one.books.retention


def test_a_promoted_newcomer_does_not_wait_for_ever() -> None:
    """Room is kept for it, when it has been passed over for as long as others are."""
    one = world(LEVELS, slots=4)
    one.submit(one.open("busy"), prompt=A, max_tokens=8)
    promoted(one, ran_long(one, [5]), [*B, 3])
    since_ns = one.now_ns
    step(one)
    for is_late in (False, True):
        one.now_ns = since_ns + MOST_NS - 1 + is_late
        one.plan()
        assert one.books.totals["reservations"] == is_late
        one.commit(forward_ns=0)


def test_nothing_is_retained_where_it_is_not_to_be() -> None:
    """With the option off, the engine evicts what was used least recently."""
    one = world(retains=False)
    ran(one, one.open("away"), A)
    assert one.scheduler.statistics().device.retained == 0
    one = world()
    ran(one, one.open("away"), A)
    assert one.scheduler.statistics().device.retained == len(A)
