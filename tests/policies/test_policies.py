"""What each policy inherits, how it ranks and orders, and when it fits its levels."""

import math
from collections.abc import Sequence

import attrs
import pytest

from autellix.core.process_table import ProcessTable, ProgramView
from autellix.core.ranking import ChargeSample, InnerOrder, Policy
from autellix.core.records import Charge, Job
from autellix.policies import (
    ATLAS,
    FCFS,
    MLFQ,
    PLAS,
    SRPT,
    Ladder,
    ProgramFCFS,
    RemainingTable,
    SingleLevel,
)
from autellix.policies.calibration import MIN_CALLS, MIN_PROGRAMS

STEP_NS = 10_000_000
MANY = ChargeSample(calls_ns=[7] * MIN_CALLS, programs_ns=[9] * MIN_PROGRAMS)
LADDER = Ladder.geometric(1.0, 2.0, 3)
ALL: list[Policy] = [FCFS(), ProgramFCFS(), MLFQ(), PLAS(), ATLAS(), SRPT()]


def view(*, size_ns: int | None = 10_000) -> ProgramView:
    """Return a program that had service 300 and work 200, 150 of it on its path."""
    table = ProcessTable(FCFS())
    program = table.open("react", now_ns=0, size_ns=size_ns)
    return attrs.evolve(
        table.view(program), service_ns=300, work_ns=200, critical_path_ns=150
    )


@pytest.mark.parametrize(
    ("policy", "after", "inherited_ns"),
    [
        (FCFS(), None, 0),
        (ProgramFCFS(), None, 0),
        (MLFQ(), None, 0),
        (PLAS(), None, 300),
        (PLAS(), [7], 300),
        (PLAS(charge=Charge.WORK), None, 200),
        (ATLAS(), None, 150),
        (ATLAS(), [], 0),
        (ATLAS(), [7, 90, 20], 90),
        (SRPT(), None, 200),
    ],
    ids=str,
)
def test_what_a_call_inherits(
    policy: Policy, after: Sequence[int] | None, inherited_ns: int
) -> None:
    """Nothing, the sum, or the longest path: given, none (a root), or the scalar."""
    assert policy.inherited_ns(view(), after) == inherited_ns


@pytest.mark.parametrize("policy", ALL, ids=str)
def test_every_policy_gives_a_ranking_for_any_step_time(policy: Policy) -> None:
    """Levels are at least one, and placements lie among them."""
    for step_ns in (0, 1, STEP_NS, 10**11):
        ranking = policy.ranking(step_ns)
        job = Job(program_class="chat", program_arrival=0, size_ns=10**9)
        placed = [ranking.enter(job, 0), ranking.promote(job, 5)]
        placed.append(ranking.expire(job, 10**9, 0))
        assert all(0 <= p.level < ranking.levels for p in placed)
        assert ranking.promote(job, 5).level == 0
        assert ranking.first_quantum_ns > 0


@pytest.mark.parametrize("policy", [FCFS(), ProgramFCFS()], ids=str)
def test_fcfs_has_one_level_without_end_and_promotes_nobody(policy: Policy) -> None:
    """There is nowhere to promote to."""
    ranking = policy.ranking(STEP_NS)
    assert ranking == SingleLevel()
    job = Job(program_class="chat", program_arrival=0)
    placements = ranking.enter(job, 0), ranking.expire(job, 9, 0)
    assert {placed.expires_at_ns for placed in placements} == {None}
    assert policy.beta is None
    assert policy.recalibrated(ranking, MANY) is None


def test_fcfs_orders_by_call_and_program_fcfs_by_program() -> None:
    """That is all the difference between them."""
    assert FCFS().inner_order is InnerOrder.LEVEL_ARRIVAL
    assert ProgramFCFS().inner_order is InnerOrder.PROGRAM_ARRIVAL


@pytest.mark.parametrize("kind", [MLFQ, PLAS, ATLAS])
def test_a_fixed_ladder_is_used_and_kept(
    kind: type[MLFQ | PLAS | ATLAS],
) -> None:
    """Whatever is seen."""
    policy = kind(ladder=LADDER)
    assert policy.ranking(STEP_NS) is LADDER
    assert policy.recalibrated(LADDER, MANY) is None


@pytest.mark.parametrize("kind", [MLFQ, PLAS, ATLAS])
def test_without_a_ladder_levels_are_fitted_to_what_is_seen(
    kind: type[MLFQ | PLAS | ATLAS],
) -> None:
    """From a guess by the step time on."""
    policy = kind()
    first = policy.ranking(STEP_NS)
    fitted = policy.recalibrated(first, MANY)
    assert fitted is not None
    assert fitted.levels == first.levels == 8
    assert fitted.first_quantum_ns < first.first_quantum_ns


def test_mlfq_needs_no_programs_to_be_fitted() -> None:
    """No age of its is that of a program."""
    seen = ChargeSample(calls_ns=MANY.calls_ns, programs_ns=())
    old = MLFQ().ranking(STEP_NS)
    assert MLFQ().recalibrated(old, seen) is not None
    assert PLAS().recalibrated(old, seen) is None


@pytest.mark.parametrize("kind", [MLFQ, PLAS, ATLAS, SRPT])
@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_beta_must_be_positive_and_finite(
    kind: type[MLFQ | PLAS | ATLAS | SRPT], beta: float
) -> None:
    """None, not a number, says never."""
    with pytest.raises(ValueError, match="beta"):
        kind(beta=beta)
    assert kind(beta=None).beta is None


def test_a_ladder_must_be_a_ladder() -> None:
    """A list of bounds is a likely slip."""
    with pytest.raises(TypeError, match="ladder"):
        PLAS(ladder=[1.0, 2.0])  # type: ignore[arg-type]


def test_srpt_ranks_by_work_left_in_levels_spaced_by_a_ratio() -> None:
    """From the work of one step up."""
    ranking = SRPT(levels=4, ratio=2.0).ranking(16_000_000)
    assert isinstance(ranking, RemainingTable)
    assert ranking.bounds_ns == (1_000_000, 2_000_000, 4_000_000)
    assert SRPT().charge is Charge.WORK
    assert SRPT().recalibrated(ranking, MANY) is None


def test_srpt_refuses_a_program_without_size_at_submission() -> None:
    """The message names its class."""
    with pytest.raises(ValueError, match="class 'react' has no size"):
        SRPT().inherited_ns(view(size_ns=None), None)


@pytest.mark.parametrize(("levels", "ratio"), [(0, 2.0), (3, 1.0), (3, math.inf)])
def test_srpt_refuses_levels_that_cannot_be(levels: int, ratio: float) -> None:
    """One level at least, spaced by more than 1."""
    with pytest.raises(ValueError, match=r"levels|ratio"):
        SRPT(levels=levels, ratio=ratio)
