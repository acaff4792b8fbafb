"""KV blocks: states, prefix hits, eviction, references and the host tier (K1 to K5)."""

import pytest

from autellix.core.kv_blocks import KVBlocks
from autellix.core.snapshot import TierUse, device_use, host_use
from autellix.errors import InvariantError
from tests.core.kv_engine import KVEngine

LAYOUTS = pytest.mark.parametrize("shares", [True, False], ids=["shared", "own"])
TURN_1, TURN_2 = [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7, 8]


def use(
    total: int, *, cached: int = 0, referenced: int = 0, moving: int = 0
) -> TierUse:
    """Return the use of a tier; what is not said is free."""
    return TierUse(
        total=total,
        free=total - cached - referenced - moving,
        cached=cached,
        referenced=referenced,
        moving=moving,
    )


# -- K1: states of a block ---------------------------------------------------------


def test_a_block_is_free_then_referenced_then_cached() -> None:
    """Full blocks stay when a call ends, the half-filled last one is free again."""
    engine = KVEngine(device=4)
    assert device_use(engine.blocks) == use(4)
    call = engine.ran(TURN_1)
    assert device_use(engine.blocks) == use(4, referenced=3)
    engine.end(call)
    assert device_use(engine.blocks) == use(4, cached=2)


def test_a_host_block_is_moving_until_it_is_written() -> None:
    """It can be had by nobody until the plan that writes it has run."""
    engine = KVEngine(device=4, host=2)
    engine.end(engine.ran(TURN_1))
    assert host_use(engine.blocks) == use(2, moving=2)
    engine.idle()
    assert host_use(engine.blocks) == use(2, cached=2)


def test_calls_share_the_blocks_of_a_common_prefix() -> None:
    """A hit takes a reference and no block."""
    engine = KVEngine(device=4)
    first = engine.ran(TURN_1)
    second = engine.ran([1, 2, 3, 4, 9])
    assert second.lease.blocks[:2] == first.lease.blocks[:2]
    assert device_use(engine.blocks) == use(4, referenced=4)


def test_a_prefix_hit_is_copied_where_calls_cannot_share() -> None:
    """Then it takes blocks of its own, filled by the plan and not by the model."""
    engine = KVEngine(device=6, shares=False)
    first, second = engine.ran(TURN_1), engine.call([1, 2, 3, 4, 9])
    plan = engine.run(second)
    assert [tokens for _, tokens in plan.calls] == [1]
    assert [source for source, _ in plan.within_device] == first.lease.blocks[:2]
    assert [target for _, target in plan.within_device] == second.lease.blocks[:2]
    assert device_use(engine.blocks) == use(6, referenced=6)


def test_equal_blocks_computed_side_by_side_become_one() -> None:
    """The second of two calls that compute the same gives its block back."""
    engine = KVEngine(device=4)
    first, second = engine.call([1, 2, 8]), engine.call([1, 2, 9])
    engine.run(first, second)
    assert first.lease.blocks[0] == second.lease.blocks[0]
    assert device_use(engine.blocks) == use(4, referenced=3)


def test_sizes_out_of_range_are_refused() -> None:
    """The message shows them."""
    with pytest.raises(ValueError, match="device_blocks 0"):
        KVBlocks(device_blocks=0, host_blocks=1, block_tokens=1, shares_blocks=True)
    with pytest.raises(ValueError, match="host_blocks -1"):
        KVBlocks(device_blocks=1, host_blocks=-1, block_tokens=1, shares_blocks=True)


def test_admission_without_room_is_a_bug_of_ours() -> None:
    """Whoever admits has asked ``lacking`` before."""
    engine = KVEngine(device=2)
    call = engine.call(TURN_1)
    found = engine.blocks.find(call)
    assert engine.lacking(call) == 1
    with pytest.raises(InvariantError, match="call 1 was admitted without room"):
        engine.blocks.admit(call, found, len(call.tokens))


# -- K2: what is found again -------------------------------------------------------


@LAYOUTS
def test_the_next_turn_finds_the_turn_before(shares: bool) -> None:
    """Also what the model said, and in full blocks only."""
    engine = KVEngine(shares=shares)
    call = engine.call(TURN_1)
    engine.run(call, said=[6])
    engine.run(call, said=[7])
    engine.end(call)
    assert engine.found(TURN_2) == 6


def test_a_block_is_found_only_after_the_blocks_before_it() -> None:
    """Equal tokens after another prefix are something else."""
    engine = KVEngine()
    engine.remember([1, 2, 3, 4])
    assert engine.found([1, 2, 3, 4]) == 4
    assert engine.found([1, 2, 9, 9]) == 2
    assert engine.found([3, 4]) == 0
    assert engine.found([9, 9, 3, 4]) == 0


def test_one_token_at_least_is_left_to_compute() -> None:
    """Without it there would be no output."""
    engine = KVEngine()
    engine.remember([1, 2, 3, 4])
    again = engine.call([1, 2, 3, 4])
    plan = engine.run(again)
    assert [tokens for _, tokens in plan.calls] == [2]


def test_nothing_is_found_where_prefixes_are_not_kept() -> None:
    """All blocks of a call are free when it has ended."""
    engine = KVEngine(caches=False)
    engine.remember([1, 2, 3, 4])
    assert engine.found([1, 2, 3, 4]) == 0
    assert device_use(engine.blocks) == use(8)


@LAYOUTS
def test_a_dropped_call_finds_what_it_computed(shares: bool) -> None:
    """As long as nobody took its blocks: then only the rest is computed again."""
    engine = KVEngine(shares=shares)
    call = engine.ran(TURN_1)
    engine.drop(call)
    plan = engine.run(call)
    assert [tokens for _, tokens in plan.calls] == [1]


# -- K3: what is evicted -----------------------------------------------------------


def test_the_least_recently_used_prefix_goes_first() -> None:
    """A hit makes it the most recently used again."""
    engine = KVEngine(device=6)
    engine.remember([1, 1], [2, 2], [3, 3], [1, 1, 9])
    engine.ran([4] * 8)
    assert [engine.found([n, n]) for n in (1, 2, 3)] == [2, 0, 2]


def test_leaves_go_before_what_is_above_them() -> None:
    """What remains of a prefix can still be found."""
    engine = KVEngine(device=4)
    engine.remember([1, 2, 3, 4, 5, 6])
    engine.ran([9] * 4)
    assert engine.found([1, 2, 3, 4, 5, 6]) == 4


def test_referenced_blocks_are_never_evicted() -> None:
    """Not even when nothing else is there."""
    engine = KVEngine(device=3)
    engine.ran([1, 2, 3, 4])
    assert engine.lacking(engine.call([9] * 4)) == 1


def test_a_branch_that_is_held_keeps_what_is_above_it() -> None:
    """Where calls hold copies too: one of them takes the place of what is evicted."""
    engine = KVEngine(device=6, shares=False)
    engine.remember([1, 2])
    holder = engine.ran([1, 2, 3, 4])
    engine.end(engine.ran([9] * 6))
    assert engine.found([1, 2, 3, 4]) == 4
    engine.end(holder)
    assert engine.found([1, 2, 3, 4]) == 4


def test_taking_copies_of_hits_may_evict_the_hits() -> None:
    """They are read before anything is written, and found at their new place."""
    engine = KVEngine(device=3, shares=False)
    engine.remember([1, 2, 3, 4])
    call = engine.call([1, 2, 3, 4, 5])
    plan = engine.run(call)
    assert [tokens for _, tokens in plan.calls] == [1]
    assert engine.found([1, 2, 3, 4]) == 4


def test_the_parent_stays_younger_when_only_the_child_was_loaded() -> None:
    """Else evicting the parent from the host would lose the child with it."""
    engine = KVEngine(device=4, host=5)
    engine.remember([1, 1, 2, 2], [9] * 6)  # evicts the leaf from the device
    call = engine.call([1, 1, 2, 2, 3])
    assert len(engine.run(call).to_device) == 1
    engine.end(call)
    engine.remember([7] * 8)
    assert engine.found([1, 1, 2, 2]) == 2


# -- K4: references ----------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("state", ["running", "dropped", "swapped", "swapping"])
def test_at_rest_nothing_is_referenced(shares: bool, state: str) -> None:
    """However a call ends, what it held is free or cached afterwards."""
    engine = KVEngine(device=8, host=8, shares=shares)
    call = engine.ran(TURN_1)
    other = engine.ran([1, 2, 3, 4, 9])
    if state == "dropped":
        engine.drop(call)
    elif state != "running":
        engine.swap_out(call)
    if state == "swapped":
        engine.idle()
    engine.end(call)
    engine.end(other)
    engine.idle()
    for tier in (device_use(engine.blocks), host_use(engine.blocks)):
        assert (tier.referenced, tier.moving) == (0, 0)


def test_a_shared_block_is_released_by_the_last_that_holds_it() -> None:
    """Until then it cannot be evicted."""
    engine = KVEngine(device=4)
    first, second = engine.ran([1, 2, 8]), engine.ran([1, 2, 9])
    engine.end(first)
    assert engine.lacking(engine.call([7] * 8)) == 2
    engine.end(second)
    assert engine.lacking(engine.call([7] * 8)) == 0


# -- K5: the host tier -------------------------------------------------------------


def test_full_blocks_are_written_when_a_call_ends() -> None:
    """So evicting them from the device copies nothing."""
    engine = KVEngine(device=3, host=4)
    engine.end(engine.ran(TURN_1))
    assert len(engine.idle().to_host) == 2
    engine.end(engine.ran([9, 9, 9, 9, 9]))
    plan = engine.idle()
    assert len(plan.to_host) == 2  # those of the second call, not what it evicted
    assert engine.found(TURN_1) == 4


@LAYOUTS
def test_what_was_evicted_from_the_device_is_loaded(shares: bool) -> None:
    """A later hit costs a copy, not a computation."""
    engine = KVEngine(device=4, host=6, shares=shares)
    engine.remember([1, 2, 3, 4], [9] * 8)
    call = engine.call(TURN_1)
    assert engine.blocks.find(call).device == 0
    plan = engine.run(call)
    assert len(plan.to_device) == 2
    assert [tokens for _, tokens in plan.calls] == [1]


def test_a_prefix_is_found_partly_here_and_partly_there() -> None:
    """First what is on the device, then what is in the host tier."""
    engine = KVEngine(device=4, host=8)
    engine.remember([1, 2, 3, 4, 5, 6], [9] * 4)
    call = engine.call([1, 2, 3, 4, 5, 6, 7])
    found = engine.blocks.find(call)
    assert (found.device, found.tokens) == (2, 6)
    plan = engine.run(call)
    assert len(plan.to_device) == 1


def test_a_block_on_its_way_to_the_host_cannot_be_read_there() -> None:
    """Its content is not there before the plan has run."""
    engine = KVEngine(device=2, host=2)
    engine.end(engine.ran([1, 2, 3, 4]))
    other = engine.call([9] * 4)
    engine.blocks.admit(other, engine.blocks.find(other), 4)  # evicts from the device
    assert engine.found([1, 2, 3, 4]) == 0


def test_a_write_asked_for_while_a_plan_runs_waits_for_the_next() -> None:
    """The plan in flight does not make it, so its end does not settle it."""
    engine = KVEngine(device=4, host=4)
    waits = engine.ran([1, 2, 3, 4])
    engine.blocks.take_copies()  # of a plan
    engine.blocks.release(waits)  # cancelled while it runs
    engine.live.remove(waits)
    engine.blocks.settle()  # the plan ended
    assert host_use(engine.blocks) == use(4, moving=2)
    engine.idle()
    assert host_use(engine.blocks) == use(4, cached=2)


@LAYOUTS
def test_a_swapped_call_goes_on_where_it_was(shares: bool) -> None:
    """Nothing is computed again, the half-filled last block included."""
    engine = KVEngine(device=4, host=4, shares=shares)
    call = engine.ran(TURN_1)
    call.tokens.append(6)
    engine.swap_out(call)
    plan = engine.idle()
    assert len(plan.to_host) == 3
    engine.remember([9] * 8)
    plan = engine.run(call)
    assert len(plan.to_device) == 3
    assert [tokens for _, tokens in plan.calls] == [1]


def test_swapping_copies_only_what_the_host_does_not_have() -> None:
    """What an earlier call left there, or is on its way there, is referenced."""
    engine = KVEngine(device=8, host=4)
    engine.remember([1, 2, 3, 4])
    call = engine.ran([1, 2, 3, 4, 5, 6, 7])
    assert engine.blocks.host_blocks_needed(call) == 4
    engine.swap_out(call)
    assert len(engine.idle().to_host) == 2
    assert host_use(engine.blocks) == use(4, referenced=4)


def test_referenced_host_blocks_are_not_evicted() -> None:
    """A swapped call does not lose its KV to calls that end."""
    engine = KVEngine(device=8, host=3)
    call = engine.ran(TURN_1)
    engine.swap_out(call)
    engine.remember([7] * 6, [8] * 6)
    engine.run(call)


def test_a_call_that_ends_does_not_evict_its_own_beginning() -> None:
    """A block is worth nothing in the host tier without those before it."""
    engine = KVEngine(device=8, host=2)
    engine.remember([1, 2])
    engine.remember([1, 2, 3, 4, 5, 6])
    engine.ran([9] * 16)  # evicts all from the device, and does not end
    assert engine.found([1, 2, 3, 4, 5, 6]) == 4


def test_without_a_host_pool_nothing_is_written() -> None:
    """And nobody can be swapped."""
    engine = KVEngine(device=4, host=0)
    call = engine.ran(TURN_1)
    assert engine.blocks.host_blocks_needed(call) > engine.blocks.host.available
    engine.end(call)
    assert not engine.blocks.has_copies


def test_a_found_block_that_moves_meanwhile_is_not_read() -> None:
    """Where blocks are copied, a cached one may give its place to one on its way."""
    engine = KVEngine(device=9, shares=False)
    victim = engine.ran([50, 51, 52, 53, 54])
    first = engine.ran([1, 2, 9])
    engine.ran([1, 2, 3, 4, 5])
    late = engine.call([1, 2, 3, 4, 7])
    engine.end(first)
    assert engine.blocks.find(late).tokens == 4
    other = engine.call([1, 2, 3, 4, 8])
    found = engine.blocks.find(other)
    engine.blocks.admit(other, found, 5)  # evicts a hit; its copy on its way stands in
    engine.blocks.drop(victim)  # in the same round
    found = engine.blocks.find(late)
    assert found.tokens == 0
    engine.blocks.admit(late, found, 5)
