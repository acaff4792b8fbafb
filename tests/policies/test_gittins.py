"""Gittins as a policy: what it inherits, when it learns anew, and its tables."""

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from types import FrameType
from typing import Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.config.structure import structured
from autellix.core.process_table import ProcessTable
from autellix.core.ranking import ChargeSample, InnerOrder, Placement, Policy
from autellix.core.records import Charge, Job
from autellix.policies import Gittins, SingleLevel, from_spec, to_spec
from autellix.policies.gittins import ClassSizes, IndexTable, SizeModel, Sizes
from autellix.policies.gittins.table import FACTOR, LEVELS, levels_by_age
from tests.policies.test_gittins_sizes import programs, seen

STEP_NS = 10_000_000
KNOWN = SizeModel(classes={"chat": ClassSizes(ended=[Sizes(2.0, 50.0)])})
JOB = Job(program_class="chat", program_arrival=0)


def table(sizes_s: Sequence[float], objective: str = "latency") -> IndexTable:
    """Return what is learned from programs of these sizes."""
    policy = Gittins(objective=objective)
    found = policy.recalibrated(policy.ranking(STEP_NS), seen(programs(sizes_s)))
    assert isinstance(found, IndexTable)
    return found


def test_it_counts_total_work_and_ties_go_to_the_earlier_program() -> None:
    """An engine spends work on every branch, so all of it is age."""
    processes = ProcessTable(Gittins())
    view = processes.view(processes.open("chat", now_ns=0))
    view = attrs.evolve(view, work_ns=200, critical_path_ns=150, service_ns=900)
    assert Gittins().inherited_ns(view, [7]) == 200
    assert Gittins().charge is Charge.WORK
    assert Gittins().inner_order is InnerOrder.PROGRAM_ARRIVAL


def test_settings_are_checked() -> None:
    """The message shows the value."""
    with pytest.raises(
        ValueError, match=r"objective .*'latency', 's/token': 'makespan'"
    ):
        Gittins(objective="makespan")
    with pytest.raises(TypeError, match=r"load_sizes.*'sizes\.json'"):
        Gittins(model="sizes.json")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beta"):
        Gittins(beta=-1.0)
    with pytest.raises(TypeError, match="SingleLevel"):
        Gittins().recalibrated(SingleLevel(), seen())


def test_with_nothing_known_it_is_least_attained_service() -> None:
    """The widest guess: who has run long, has long to run."""
    ranking = Gittins().ranking(STEP_NS)
    ages = [2**power for power in range(44)]
    levels = [ranking.enter(JOB, age_ns).level for age_ns in ages]
    assert levels == sorted(levels)
    assert len(set(levels)) > LEVELS // 2


@pytest.mark.parametrize("objective", ["latency", "s/token"])
@given(sizes_s=st.lists(st.floats(1e-3, 1e4), max_size=40))
def test_any_sizes_give_a_whole_table(objective: str, sizes_s: list[float]) -> None:
    """Every age has a level among the same K, and each placement a later expiry."""
    ranking = table(sizes_s, objective=objective)
    assert ranking.levels == LEVELS
    for age_ns in [0, 1, 10**6, 10**9, 10**13, 10**18]:
        placed = ranking.enter(JOB, age_ns)
        assert 0 <= placed.level < LEVELS
        assert placed.expires_at_ns is None or placed.expires_at_ns > age_ns
        assert ranking.expire(JOB, age_ns, 3) == placed
    assert ranking.promote(JOB, 5) == Placement(0, 5 + ranking.hold_ns)
    assert ranking.first_quantum_ns > 0


def test_the_level_says_the_rank_to_a_stated_factor() -> None:
    """Level i is for ranks from ``first * FACTOR**i``, with a quarter of slack."""
    ages_s = [float(n) for n in range(30)]
    ranks_s = [0.01 * 1.17**n for n in range(30)]
    row = levels_by_age(ages_s, ranks_s, 0.01)
    for age_s, rank_s in zip(ages_s, ranks_s, strict=True):
        level = row.place(round(age_s * 1e9)).level
        assert 0.01 * FACTOR ** (level - 0.26) <= rank_s
        assert rank_s <= 0.01 * FACTOR ** (level + 1.26)


def test_a_bump_between_two_levels_is_no_change() -> None:
    """Or a rank that wavers about a bound would preempt at every turn."""
    bound = 0.01 * FACTOR**5
    ranks_s = [bound * (1.05 if n % 2 else 0.95) for n in range(20)]
    row = levels_by_age([float(n) for n in range(20)], ranks_s, 0.01)
    assert len(row.levels) == 1


def test_while_little_is_known_every_look_learns() -> None:
    """Programs that run and do not end tell something as well."""
    policy = Gittins()
    first = policy.ranking(STEP_NS)
    assert policy.recalibrated(first, seen(programs([1.0] * 2))) is not None


def test_later_it_learns_anew_when_enough_has_ended_since() -> None:
    """An eighth more, and 32 at most."""
    policy = Gittins()
    old = table([1.0] * 100)
    assert old.programs_ended == 100
    few, enough = (seen(programs([1.0] * n)) for n in (110, 114))
    assert policy.recalibrated(old, few) is None
    assert policy.recalibrated(old, enough) is not None
    late = attrs.evolve(old, programs_ended=10_000)
    assert policy.recalibrated(late, seen(ended=10_031)) is None
    assert policy.recalibrated(late, seen(ended=10_032)) is not None


def test_programs_that_come_are_news_also_if_none_ends() -> None:
    """A load that changes to longer programs is followed while they run."""
    policy = Gittins()
    old = table([1.0] * 100)
    new = [
        attrs.evolve(each, arrival=100 + each.arrival, has_ended=False)
        for each in programs([40.0] * 13)
    ]
    grown = policy.recalibrated(old, seen([*programs([1.0] * 100), *new]))
    assert isinstance(grown, IndexTable)
    assert grown.model.classes["chat"].running
    few = seen([*programs([1.0] * 100), *new[:9]])
    assert policy.recalibrated(old, few) is None
    assert policy.recalibrated(grown, few) is None


def test_a_model_from_an_earlier_run_holds_from_the_first_call() -> None:
    """No start in the cold: the class is known before any program has ended."""
    warm = Gittins(model=KNOWN).ranking(STEP_NS)
    young, old = (warm.enter(JOB, age_ns).level for age_ns in (0, 1_900_000_000))
    assert old < young  # about to end
    other = Job(program_class="other", program_arrival=1)
    cold = Gittins().ranking(STEP_NS)
    assert warm.enter(other, 0) == cold.enter(other, 0)


def test_a_name_for_every_program_is_learned_as_one_class() -> None:
    """Bad classes: what they share is known, and used for the next of them."""
    policy = Gittins()
    many = [programs([2.0], f"run {number}") for number in range(60)]
    found = policy.recalibrated(policy.ranking(STEP_NS), seen(*many))
    assert isinstance(found, IndexTable)
    assert not found.rows
    assert found.shared.ends == pytest.approx(60, rel=0.15)
    new = Job(program_class="run 60", program_arrival=60)
    assert found.enter(new, 1_900_000_000).level < found.enter(new, 0).level


def test_one_name_for_two_kinds_is_their_mixture() -> None:
    """Bad classes: past the size of the small ones, what is left are the large ones."""
    found = table([1.0] * 30 + [50.0] * 10)
    young, past, late = (
        found.enter(JOB, age_ns).level for age_ns in (0, 2 * 10**9, 45 * 10**9)
    )
    assert young < past
    assert late < past


def test_what_a_row_rests_on_can_be_seen() -> None:
    """Its ends, who goes on past which age, and the index by age."""
    row = table([1.0, 2.0, 3.0] * 10).rows["chat"]
    assert row.ends == pytest.approx(30, rel=0.1)
    assert row.ages_s[0] == 0.0
    assert row.survival[0] == 1.0
    assert all(after < before for before, after in pairwise(row.survival))
    assert len(row.ages_s) == len(row.survival) == len(row.rank_s)


def test_it_crosses_into_another_process() -> None:
    """Q6: policy and table as specs of plain values; rows are made anew there."""
    policy = Gittins(objective="s/token", model=KNOWN)
    there = from_spec(json.loads(json.dumps(to_spec(policy))))
    assert there == policy
    assert there.ranking(STEP_NS) == policy.ranking(STEP_NS)


def test_a_table_crosses_as_what_it_rests_on() -> None:
    """Q6: a small message; rows are made anew there."""
    sent = table([1.0, 4.0] * 20)
    spec = to_spec(cast("Policy", sent))
    arrived = cast("IndexTable", from_spec(json.loads(json.dumps(spec))))
    assert arrived == sent
    assert arrived.rows == sent.rows
    assert len(json.dumps(spec)) < 4_000


def lines_to_learn(count: int) -> int:
    """Return how many lines of code run to learn from so many programs."""
    policy, first = Gittins(), Gittins().ranking(STEP_NS)
    sample: ChargeSample = seen(programs([1.0 + n % 97 for n in range(count)]))
    lines = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert policy.recalibrated(first, sample) is not None
    finally:
        sys.settrace(before)
    return lines


def test_learning_takes_no_more_than_in_proportion_to_the_programs() -> None:
    """Ten thousand take at most four times what 2,500 do: no square."""
    assert lines_to_learn(10_000) <= 4 * lines_to_learn(2_500)


def test_a_configuration_can_choose_its_objective() -> None:
    """By the words of the docs; anything else is refused with them."""
    built = structured({"objective": "s/token", "beta": 4.0}, Gittins, "policy")
    assert built == Gittins(objective="s/token", beta=4.0)
