"""Where blocks lie: hand-written plans over memory whose content can be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
import torch

from autellix.backends.torch.extents import Extent, Extents, HostPool, KVShape
from autellix.core.call import Call
from autellix.core.plan import Plan
from autellix.core.prefix_tree import Lease
from autellix.core.records import CallSpec, Job
from autellix.errors import InvariantError

SHAPE = KVShape(layers=2, kv_heads=1, head_dim=4, block_tokens=4, dtype=torch.float32)


def make_call(
    call_id: int, blocks: Sequence[int], *, tokens: int = 8, max_tokens: int = 400
) -> Call:
    """Return a call that holds ``blocks``."""
    spec = CallSpec(
        call_id=call_id,
        program_id=call_id,
        job=Job(program_class="test", program_arrival=0),
        inherited_ns=0,
        prompt=[1] * tokens,
        max_tokens=max_tokens,
    )
    return Call(
        spec=spec,
        tokens=list(spec.prompt),
        lease=Lease(blocks=list(blocks)),
        submitted_ns=0,
        accounted_ns=0,
    )


def make_plan(
    *calls: Call,
    to_host: Iterable[tuple[int, int]] = (),
    to_device: Iterable[tuple[int, int]] = (),
    within_device: Iterable[tuple[int, int]] = (),
    released: Sequence[int] = (),
) -> Plan:
    """Return a plan of one token for each call."""
    return Plan(
        at_ns=0,
        calls=[(call, 1) for call in calls],
        to_host=list(to_host),
        to_device=list(to_device),
        within_device=list(within_device),
        released=released,
    )


def write(extents: Extents, call: Call, *values: float) -> None:
    """Fill the first blocks of a call with one value each."""
    for index, value in enumerate(values):
        extents.of(call.call_id).view(index, 1).fill_(value)


def read(extents: Extents, call: Call) -> list[float]:
    """Return the value in each block of a call; all numbers of a block must agree."""
    blocks = extents.of(call.call_id).view(0, len(call.lease.blocks))
    assert all(
        torch.equal(block, block.flatten()[0].expand_as(block)) for block in blocks
    )
    return [float(block.flatten()[0]) for block in blocks]


def test_a_prefix_hit_copies_the_block_of_a_call_that_has_ended() -> None:
    """Blocks stay where they are until their ids are given to another call."""
    extents = Extents(SHAPE, host_blocks=0)
    first = make_call(1, [3, 4, 5])
    extents.move(make_plan(first))
    write(extents, first, 30, 40, 50)
    second = make_call(2, [7, 8])
    extents.move(make_plan(second, within_device=[(3, 7), (4, 8)], released=[1]))
    assert read(extents, second) == [30, 40]


def test_sources_are_read_before_targets_are_written() -> None:
    """A block may be given away in the very plan that copies its content."""
    extents = Extents(SHAPE, host_blocks=4)
    old = make_call(1, [0, 1])
    extents.move(make_plan(old))
    write(extents, old, 10, 11)
    extents.host.view(2, 1).fill_(92)
    new = make_call(2, [1, 0, 5])
    extents.move(
        make_plan(
            new,
            to_host=[(0, 2), (1, 3)],  # host block 2 is read by the copy below
            to_device=[(2, 1)],
            within_device=[(1, 0), (0, 5)],
            released=[1],
        )
    )
    assert read(extents, new) == [92, 11, 10]
    assert [float(extents.host.kv[i].mean()) for i in (2, 3)] == [10, 11]


def test_a_call_swapped_out_and_in_finds_its_content_in_a_new_extent() -> None:
    """Also where it comes back in the same plan, with the same blocks."""
    extents = Extents(SHAPE, host_blocks=4)
    call = make_call(1, [0, 1])
    extents.move(make_plan(call))
    write(extents, call, 10, 11)
    before = extents.of(1)
    extents.move(make_plan(to_host=[(0, 1), (1, 0)], released=[1]))
    call.lease.blocks = [0, 1]
    extents.move(make_plan(call, to_device=[(1, 0), (0, 1)]))
    assert extents.of(1) is not before
    assert read(extents, call) == [10, 11]


def test_a_call_that_outgrows_its_extent_keeps_its_content() -> None:
    """Growth doubles, and never goes past prompt and output."""
    extents = Extents(SHAPE, host_blocks=0)
    call = make_call(1, [0, 1], tokens=8, max_tokens=60)
    extents.move(make_plan(call))
    write(extents, call, 0, 1)
    capacities = []
    for block in range(2, 17):
        call.lease.blocks.append(block)
        extents.move(make_plan(call))
        extents.of(1).view(block, 1).fill_(block)
        capacities.append(extents.of(1).capacity_blocks)
    assert read(extents, call) == list(range(17))
    assert sorted(set(capacities)) == [6, 12, 17]
    assert extents.allocated_blocks == 17


def test_an_extent_goes_when_none_of_its_blocks_is_left() -> None:
    """Memory follows the blocks, not the calls."""
    extents = Extents(SHAPE, host_blocks=0)
    for number in range(50):
        call = make_call(number, range(8), tokens=32, max_tokens=1)
        released = [number - 1] if number else []
        extents.move(make_plan(call, released=released))
    assert extents.allocated_blocks == 9


def test_an_extent_less_than_half_in_use_is_copied_into_a_smaller_one() -> None:
    """Else one cached block could keep the memory of a long call."""
    extents = Extents(SHAPE, host_blocks=0)
    long = make_call(1, range(40), tokens=160, max_tokens=1)
    extents.move(make_plan(long))
    write(extents, long, *range(40))
    eater = make_call(2, [], tokens=1, max_tokens=400)
    for block in range(39, 2, -1):
        eater.lease.blocks.append(block)
        extents.move(make_plan(eater, released=[1]))
        assert extents.allocated_blocks <= 2 * 40 + eater.spec.max_tokens // 4 + 1
    left = make_call(3, [50, 51, 52], tokens=12, max_tokens=1)
    extents.move(
        make_plan(left, within_device=[(0, 50), (1, 51), (2, 52)], released=[2])
    )
    assert read(extents, left) == [0, 1, 2]
    memory = extents._place(0).memory
    assert isinstance(memory, Extent)
    assert memory.capacity_blocks <= 6


def test_neighbouring_blocks_move_in_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One packed transfer a direction, where both ends are neighbours (rule S7)."""
    extents = Extents(SHAPE, host_blocks=16)
    call = make_call(1, range(8))
    extents.move(make_plan(call))
    write(extents, call, *range(8))
    copied: list[int] = []
    view = HostPool.view

    def spy(pool: HostPool, start: int, blocks: int) -> torch.Tensor:
        copied.append(blocks)
        return view(pool, start, blocks)

    monkeypatch.setattr(HostPool, "view", spy)
    extents.move(make_plan(to_host=[(n, n + 4) for n in range(8)], released=[1]))
    extents.move(make_plan(call, to_device=[(n + 4, n) for n in range(8)]))
    assert copied == [8, 8]
    assert read(extents, call) == list(range(8))


def test_copies_that_are_not_neighbours_go_where_they_should() -> None:
    """Any permutation of blocks survives the way out and in."""
    extents = Extents(SHAPE, host_blocks=8)
    call = make_call(1, range(6))
    extents.move(make_plan(call))
    write(extents, call, *range(6))
    places = [3, 2, 1, 5, 6, 0]
    extents.move(make_plan(to_host=enumerate(places), released=[1]))
    call.lease.blocks = [9, 8, 7, 6, 5, 4]
    extents.move(make_plan(call, to_device=zip(places, call.lease.blocks, strict=True)))
    assert read(extents, call) == list(range(6))


def test_poison_reaches_blocks_that_hold_nothing_and_no_others() -> None:
    """What is freed, and the room behind a call's blocks, becomes NaN."""
    extents = Extents(SHAPE, host_blocks=2)
    gone, held = make_call(1, [0, 1]), make_call(2, [2, 3])
    extents.move(make_plan(gone, held))
    write(extents, gone, 1, 2)
    write(extents, held, 3, 4)
    extents.host.kv.zero_()
    extents.move(make_plan(held, released=[1]))
    extents.poison([0, 1, 77], [1])
    assert read(extents, held) == [3, 4]
    assert extents.of(2).view(2, 1).isnan().all()
    assert extents.host.kv[1].isnan().all()
    assert not extents.host.kv[0].isnan().any()
    reader = make_call(3, [8])
    extents.move(make_plan(reader, within_device=[(0, 8)]))
    assert extents.of(3).view(0, 1).isnan().all()


def test_reading_a_block_that_was_never_written_is_an_error() -> None:
    """Wrong books are found where they are acted on."""
    extents = Extents(SHAPE, host_blocks=1)
    with pytest.raises(InvariantError, match="block 5"):
        extents.move(make_plan(to_host=[(5, 0)]))


def test_a_lease_whose_blocks_change_in_place_is_an_error() -> None:
    """A call that keeps its extent keeps its blocks."""
    extents = Extents(SHAPE, host_blocks=0)
    call = make_call(1, [0, 1])
    extents.move(make_plan(call))
    call.lease.blocks = [0, 7]
    with pytest.raises(InvariantError, match="call 1"):
        extents.move(make_plan(call))
