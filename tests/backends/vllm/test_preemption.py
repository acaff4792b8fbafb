"""Who yields for whom, and when that pays (S2)."""

from __future__ import annotations

import attrs
import pytest

from autellix.backends.vllm.preemption import Pace, PreemptionRule, Room
from autellix.backends.vllm.surface import place_of
from autellix.core.call import Call
from autellix.core.cost_model import CostModel
from autellix.core.prefix_tree import Lease
from autellix.core.records import CallSpec, Job

COSTS = CostModel(step_ns=1_000, prefill_ns=100, decode_ns=0)
RULE = PreemptionRule(costs=COSTS)
UNKNOWN = Pace()


def call(call_id: int, level: int, *, computed: int = 0, max_tokens: int = 100) -> Call:
    """Return a call with ten prompt tokens."""
    spec = CallSpec(
        call_id=call_id,
        program_id=call_id,
        job=Job(program_class="test", program_arrival=call_id),
        inherited_ns=0,
        prompt=[1] * 10,
        max_tokens=max_tokens,
    )
    made = Call(
        spec=spec, tokens=[1] * 10, lease=Lease(), submitted_ns=0, accounted_ns=0
    )
    made.level, made.computed = level, computed
    made.order = (level, 1, 0, call_id)
    return made


def room(
    *, slots: int = 0, tokens: int = 64, blocks: int = 100, shared: int = 0
) -> Room:
    """Return what is left, by default all but slots."""
    return Room(
        slots=slots,
        tokens=tokens,
        blocks=blocks,
        block_tokens=16,
        caches_prefixes=True,
        shared=lambda _: shared,
    )


def victims(
    waiting: list[Call], running: list[Call], left: Room
) -> dict[int, list[int]]:
    """Return the ids of who yields, by the id of whom they yield for."""
    found = RULE.decide(waiting, running, left, UNKNOWN)
    return {f.by.call_id: [v.call_id for v in f.victims] for f in found}


def test_the_worst_running_call_yields_its_slot() -> None:
    """The last in order goes, for the first that waits."""
    running = [call(1, 0), call(2, 1, computed=20), call(3, 2, computed=20)]
    assert victims([call(9, 0)], running, room()) == {9: [3]}


def test_a_better_place_is_a_lower_number() -> None:
    """Level decides, then the place inside it: so vLLM's priority is our order (S1)."""
    places = [(0, (9,)), (1, (2, 7)), (1, (3, 1)), (2, (0, 0))]
    numbers = []
    for level, inner in places:
        placed = call(1, level)
        placed.inner = inner
        numbers.append(place_of(placed))
    assert numbers[0] < numbers[1] < numbers[2] < numbers[3]


def test_nobody_yields_inside_a_level() -> None:
    """A call of the same level waits."""
    assert victims([call(9, 1)], [call(1, 1, computed=20)], room()) == {}


def test_a_free_slot_is_taken_first() -> None:
    """Only the second of two better calls needs somebody to yield."""
    running = [call(1, 2, computed=20)]
    assert victims([call(8, 0), call(9, 0)], running, room(slots=1)) == {9: [1]}


def test_each_victim_yields_once() -> None:
    """Two better calls take the slots of two worse ones."""
    running = [call(1, 2, computed=20), call(2, 2, computed=20)]
    found = victims([call(8, 0), call(9, 1)], running, room())
    assert found == {8: [2], 9: [1]}


def test_a_call_about_to_end_keeps_its_slot() -> None:
    """Computing again what it has would take longer than letting it end."""
    ending = call(1, 2, computed=90, max_tokens=1)
    assert victims([call(9, 0)], [ending], room()) == {}


def test_blocks_are_taken_only_if_that_is_enough() -> None:
    """If all worse calls together hold too few, nobody is preempted."""
    running = [call(1, 0, computed=160), call(2, 2, computed=10)]
    big = call(9, 0)
    big.tokens = [1] * 64
    assert victims([big], running, room(slots=1, blocks=2)) == {}
    assert victims([big], running, room(slots=1, blocks=3)) == {9: [2]}


def test_nobody_yields_for_blocks_that_are_shared() -> None:
    """Where blocks suffice beside those that running calls hold, they are enough."""
    running = [call(2, 2, computed=48)]
    big = call(9, 0)
    big.tokens = [1] * 64
    assert victims([big], running, room(slots=1, blocks=2)) == {9: [2]}
    assert victims([big], running, room(slots=1, blocks=2, shared=1)) == {9: [2]}
    assert victims([big], running, room(slots=1, blocks=2, shared=2)) == {}
    assert victims([big], running, room(slots=0, blocks=2, shared=2)) == {9: [2]}


def test_who_shares_does_so_as_a_whole() -> None:
    """Not by its first chunk: what that leaves out needs blocks as well."""
    running = [call(2, 2, computed=48)]
    big = call(9, 0)
    big.tokens = [1] * 96
    left = room(slots=1, blocks=2, tokens=48, shared=3)
    assert victims([big], running, left) == {9: [2]}


@pytest.mark.parametrize(
    ("first_tokens", "shared", "second_tokens", "expected"),
    [
        (80, 0, 64, {9: [2]}),
        (128, 6, 48, {}),
        (128, 6, 64, {9: [2]}),
        (128, 6, 80, {9: [2]}),
    ],
    ids=["takes all", "leaves enough", "leaves one too few", "leaves too few"],
)
def test_what_an_earlier_call_takes_is_not_there_for_the_next(
    first_tokens: int, shared: int, second_tokens: int, expected: dict[int, list[int]]
) -> None:
    """Of five blocks: all, where nothing is shared, else what is beside the shared."""
    first, second = call(8, 0), call(9, 0)
    first.tokens, second.tokens = [1] * first_tokens, [1] * second_tokens
    left = attrs.evolve(
        room(slots=2, blocks=5, tokens=512),
        shared=lambda asked: shared if asked is first else 0,
    )
    running = [call(2, 2, computed=160)]
    assert victims([first, second], running, left) == expected


def test_two_calls_that_share_fit_one_after_the_other() -> None:
    """The second beside what the first took; a third finds too little."""
    first, second, third = call(7, 0), call(8, 0), call(9, 0)
    for one in first, second, third:
        one.tokens = [1] * 128
    left = room(slots=3, blocks=5, tokens=512, shared=6)
    running = [call(2, 2, computed=160)]
    assert victims([first, second], running, left) == {}
    assert victims([first, second, third], running, left) == {9: [2]}


def test_blocks_are_not_counted_as_shared_and_freed() -> None:
    """Once somebody yields, the blocks others share with it are free, not held."""
    running = [call(1, 2, computed=48), call(2, 2, computed=48)]
    big = call(8, 0), call(9, 0)
    for one in big:
        one.tokens = [1] * 64
    found = victims([*big], running, room(slots=0, blocks=2, shared=2))
    assert found == {8: [2]}


def test_without_token_budget_nobody_yields() -> None:
    """A call that could not compute a token in this step waits for the next."""
    assert victims([call(9, 0)], [call(1, 2, computed=9)], room(tokens=0)) == {}


def test_cached_blocks_make_preemption_cheap_as_long_as_they_last() -> None:
    """All is lost where the better call will need the blocks itself."""
    victim, better = call(1, 2, computed=95), call(9, 0)
    assert RULE.again_ns(victim, better, room(blocks=7)) == 16 * 100
    assert RULE.again_ns(victim, better, room(blocks=6)) == 95 * 100


def test_what_was_learned_of_the_load_decides() -> None:
    """Where slots become free sooner than the better call is done, it waits."""
    victim, better = call(1, 2, computed=17), call(9, 0)
    pace = Pace()
    pace.ended(0, 5_000)
    assert RULE.pays(victim, better, room(), pace)
    for now_ns in (0, 9_000):
        pace.left(now_ns, was_full=True)
    assert RULE.pays(victim, better, room(), pace)
    for now_ns in range(10_000, 60_000, 1_000):
        pace.left(now_ns, was_full=True)
    assert not RULE.pays(victim, better, room(), pace)
