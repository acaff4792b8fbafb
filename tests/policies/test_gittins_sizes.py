"""What is kept of programs seen: by class, weighted by age, bounded."""

from collections.abc import Iterable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.core.ranking import ChargeSample, ProgramCharge
from autellix.policies.gittins import ClassSizes, SizeModel, Sizes
from autellix.policies.gittins.sizes import (
    HALF_LIFE,
    LEAST_PROGRAMS,
    MOST_CLASSES,
    learned,
)
from autellix.policies.gittins.survival import CELLS, edges_s

S = 1_000_000_000
EDGES_S = edges_s(0.001)
NOTHING = SizeModel()


def programs(
    sizes_s: Iterable[float], name: str = "chat", *, has_ended: bool = True
) -> list[ProgramCharge]:
    """Return programs of these sizes in the order of their arrival."""
    return [
        ProgramCharge(
            program_class=name,
            arrival=arrival,
            charge_ns=round(size_s * S),
            has_ended=has_ended,
        )
        for arrival, size_s in enumerate(sizes_s)
    ]


def seen(*some: list[ProgramCharge], ended: int | None = None) -> ChargeSample:
    """Return a sample of these programs."""
    every = [program for each in some for program in each]
    count = sum(program.has_ended for program in every) if ended is None else ended
    return ChargeSample(
        calls_ns=(), programs_ns=(), programs=every, programs_ended=count
    )


def test_each_class_has_a_model_of_its_own_once_it_is_no_rarity() -> None:
    """The rare ones share one, so a name for every program is no class for each."""
    chats = programs([1.0] * LEAST_PROGRAMS)
    alone = [programs([2.0], f"agent {number}") for number in range(20)]
    model = learned(seen(chats, *alone), NOTHING, NOTHING, EDGES_S)
    assert list(model.classes) == ["chat"]
    assert model.shared.ended[0].size_s == pytest.approx(2.0)
    assert sum(each.weight for each in model.shared.ended) == pytest.approx(20, rel=0.1)


def test_what_came_half_a_life_ago_counts_half() -> None:
    """Forgetting goes by the programs of the class that came later."""
    old_and_new = [1.0] * 1 + [9.0] * HALF_LIFE
    model = learned(seen(programs(old_and_new)), NOTHING, NOTHING, EDGES_S)
    old, *_ = model.classes["chat"].ended
    assert attrs.astuple(old) == pytest.approx((1.0, 0.5))


def test_a_saved_model_counts_as_older_than_all() -> None:
    """It fades with every program seen, those no longer in the sample included."""
    was = SizeModel(classes={"chat": ClassSizes(ended=[Sizes(5.0, 100.0)])})
    new = programs([1.0] * 32)
    fresh = learned(seen(new, ended=32), was, was, EDGES_S).classes["chat"].ended[-1]
    assert fresh.weight == pytest.approx(100 * 0.5 ** (32 / HALF_LIFE))
    late = learned(seen(new, ended=64), was, was, EDGES_S).classes["chat"].ended[-1]
    assert late.weight == pytest.approx(100 * 0.5 ** (64 / HALF_LIFE))


def test_a_saved_class_that_has_not_come_back_is_kept() -> None:
    """Nothing was seen that would contradict it."""
    was = SizeModel(classes={"chat": ClassSizes(ended=[Sizes(5.0, 100.0)])})
    assert learned(seen(), was, was, EDGES_S) == was


def test_a_class_that_is_not_among_those_seen_any_more_is_kept_as_it_was() -> None:
    """Neither does what an earlier run said come back, nor is this one's work lost."""
    was = SizeModel(classes={"chat": ClassSizes(ended=[Sizes(5.0, 100.0)])})
    last = learned(seen(programs([1.0] * 500)), was, was, EDGES_S)
    later = learned(seen(programs([2.0] * 500, "agent")), was, last, EDGES_S)
    assert later.classes["chat"] == last.classes["chat"]


def test_a_saved_model_does_not_fade_by_programs_that_are_counted_twice() -> None:
    """Only of those that ended are some no longer known; all that run are."""
    was = SizeModel(classes={"chat": ClassSizes(ended=[Sizes(5.0, 100.0)])})
    new = seen(programs([1.0] * 8), programs([1.0] * 64, has_ended=False), ended=64)
    aged = learned(new, was, was, EDGES_S).classes["chat"].ended[-1]
    assert aged.weight == pytest.approx(100 * 0.5 ** ((64 + 64) / HALF_LIFE))


@pytest.mark.parametrize("programs_ended", [20_000, 300_000, 10**9])
def test_what_has_faded_is_forgotten(programs_ended: int) -> None:
    """Before its weight is too small to be one, however long a run."""
    was = SizeModel(
        classes={"chat": ClassSizes(ended=[Sizes(5.0, 100.0)], running=[Sizes(9, 1)])},
        shared=ClassSizes(ended=[Sizes(7.0, 1.0)]),
    )
    new = seen(programs([1.0] * 32), programs([1.0], "rare"), ended=programs_ended)
    model = learned(new, was, was, EDGES_S)
    assert [each.size_s for each in model.classes["chat"].ended] == [1.0]
    assert model.classes["chat"].running == ()


@pytest.mark.parametrize("open_now", [0, 600, 12_000])
def test_ends_count_however_many_are_open(open_now: int) -> None:
    """Programs that came later and are still open say little of sizes."""
    ended = programs([1.0] * 1_000)
    came_later = [
        attrs.evolve(each, arrival=1_000 + each.arrival)
        for each in programs([0.001] * open_now, has_ended=False)
    ]
    model = learned(seen(ended, came_later), NOTHING, NOTHING, EDGES_S)
    assert model.classes["chat"].ends > HALF_LIFE / 2


def test_so_many_classes_have_a_model_and_the_rarest_share_one() -> None:
    """So a table costs what it may, and a model stays small from run to run."""
    names = [f"agent {number:03}" for number in range(3 * MOST_CLASSES)]
    saved = {name: ClassSizes(ended=[Sizes(5.0, 1.0)]) for name in names}
    was = SizeModel(classes=saved)
    some = [programs([1.0] * (8 + n), name) for n, name in enumerate(names)]
    model = learned(seen(*some), was, was, EDGES_S)
    assert sorted(model.classes) == names[-MOST_CLASSES:]
    assert model.shared.ends > LEAST_PROGRAMS
    assert learned(seen(*some[::-1]), was, was, EDGES_S) == model


def test_running_programs_are_kept_apart() -> None:
    """Of them only a bound is known."""
    model = learned(
        seen(programs([1.0] * 8), programs([3.0] * 2, has_ended=False)),
        NOTHING,
        NOTHING,
        EDGES_S,
    )
    kept = model.classes["chat"]
    assert [each.size_s for each in kept.ended] == [pytest.approx(1.0)]
    assert [each.size_s for each in kept.running] == [pytest.approx(3.0)]
    assert kept.ends == pytest.approx(8, rel=0.1)


@given(st.lists(st.floats(1e-6, 1e6), min_size=8, max_size=300))
def test_a_model_stays_small_and_keeps_the_mean(sizes_s: list[float]) -> None:
    """One entry for each cell of ages at most, at the mean of what lies in it."""
    model = learned(seen(programs(sizes_s)), NOTHING, NOTHING, EDGES_S)
    kept = model.classes["chat"].ended
    assert len(kept) <= CELLS + 2
    fades = 0.5 ** (1 / HALF_LIFE)
    weights = [fades**later for later in range(len(sizes_s))][::-1]
    total = sum(w * round(s * S) / S for w, s in zip(weights, sizes_s, strict=True))
    assert sum(each.size_s * each.weight for each in kept) == pytest.approx(total)
    assert sum(each.weight for each in kept) == pytest.approx(sum(weights))


def test_the_median_is_that_of_all_classes() -> None:
    """Half of the programs are no larger; 0 where none was seen."""
    model = SizeModel(
        classes={"a": ClassSizes(ended=[Sizes(1.0, 3.0)])},
        shared=ClassSizes(ended=[Sizes(2.0, 2.0), Sizes(9.0, 2.0)]),
    )
    assert model.median_s() == pytest.approx(2.0)
    assert NOTHING.median_s() == 0.0


def test_programs_that_run_count_in_the_median() -> None:
    """Six of ten go on at 3 s; where nothing has ended, the oldest is all there is."""
    ended, running = [Sizes(1.0, 4.0), Sizes(5.0, 3.0)], [Sizes(3.0, 3.0)]
    some = SizeModel(shared=ClassSizes(ended=ended, running=running))
    assert some.median_s() == pytest.approx(5.0)
    none = SizeModel(shared=ClassSizes(running=[*running, Sizes(7.0, 1.0)]))
    assert none.median_s() == pytest.approx(7.0)


WEIGHTS = st.floats(1e-300, 1e9)
SOME_SIZES = st.lists(st.builds(Sizes, st.floats(1e-9, 1e9), WEIGHTS), max_size=9)


@given(ended=SOME_SIZES, running=SOME_SIZES)
def test_whatever_weights_there_are_there_is_a_median(
    ended: list[Sizes], running: list[Sizes]
) -> None:
    """It is one of the sizes; what is light cannot make what is heavy vanish."""
    model = SizeModel(shared=ClassSizes(ended=ended, running=running))
    assert model.median_s() in {0.0, *(each.size_s for each in [*ended, *running])}


def test_many_young_programs_do_not_undo_the_median() -> None:
    """Ten thousand that have just begun, and a few ends of old: they are the risk."""
    model = SizeModel(
        shared=ClassSizes(
            ended=[Sizes(1.0, 1.0), Sizes(5.0, 1e-15)], running=[Sizes(0.1, 2e4)]
        )
    )
    assert model.median_s() == 1.0


def test_absurd_sizes_are_refused() -> None:
    """Else their sum is no number, far from where they came in."""
    with pytest.raises(ValueError, match="must be <="):
        Sizes(1e300, 1.0)


@pytest.mark.parametrize(("size_s", "weight"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_sizes_are_positive(size_s: float, weight: float) -> None:
    """A program without work says nothing, one that counts for nothing neither."""
    with pytest.raises(ValueError, match="must be > 0"):
        Sizes(size_s, weight)
