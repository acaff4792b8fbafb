"""Engines measured through their protocol: a simulated one must give itself away."""

import attrs
import pytest

from autellix.backends.simulated import FREE, SimulatedEngine
from autellix.core.cost_model import CostModel
from autellix.errors import ConfigError
from autellix.evaluation.calibration import Calibrated, Clock, Kind, Progress, grid
from autellix.evaluation.calibration import calibrated as measured
from autellix.testing import run_virtual

COSTS = CostModel(
    step_ns=50_000_000,
    prefill_ns=1_500_000,
    decode_ns=3_000_000,
    context_ns=9_000,
    pair_ps=1_000_000,
    block_transfer_ns=30_000,
    nominal_batch=4,
)
SMALL = SimulatedEngine(costs=COSTS, slots=4, token_budget=64)


def calibrate(*engines: SimulatedEngine, **changes: int) -> Calibrated:
    """Measure engines in virtual time."""
    told: list[Progress] = []

    async def run() -> Calibrated:
        options = {"longest_tokens": 256, "rounds": 1, **changes}
        return await measured(engines, clock=Clock.WALL, tell=told.append, **options)

    found = run_virtual(run)
    assert [one.share for one in told] == sorted(one.share for one in told)
    assert told[-1].share == pytest.approx(1.0)
    return found


def assert_alike(found: CostModel, expected: CostModel) -> None:
    """Compare costs; contexts are averages over steps, so the last digits differ."""
    for name, value in attrs.asdict(expected).items():
        assert getattr(found, name) == pytest.approx(value, rel=0.002), name


@pytest.mark.slow
@pytest.mark.parametrize("caches_prefixes", [True, False])
def test_a_simulated_engine_gives_its_own_costs(caches_prefixes: bool) -> None:
    """With prompts in one chunk or several, from a cache or not; all shapes count."""
    engine = attrs.evolve(SMALL, caches_prefixes=caches_prefixes)
    found = calibrate(engine)
    assert_alike(found.costs, COSTS)
    assert len(found.points) == len(grid(engine.capabilities(), 256))
    assert found.errors(held_out=True)["largest"] < 0.002


@pytest.mark.slow
def test_engines_measured_together_give_costs_of_one() -> None:
    """Each shape has the repeats of both."""
    two = [attrs.evolve(SMALL, name=name) for name in ("left", "right")]
    found = calibrate(*two)
    assert_alike(found.costs, COSTS)
    assert {point.repeats for point in found.points} == {2, 12}


def test_an_engine_of_one_slot_can_be_measured() -> None:
    """What batches cost is not to be seen there, and nothing else is lost."""
    engine = attrs.evolve(SMALL, slots=1)
    found = calibrate(engine, longest_tokens=64)
    assert found.errors(held_out=False)["largest"] < 0.01
    assert all(point.shape.kind is not Kind.MIXED for point in found.points)


def test_an_engine_without_room_is_refused() -> None:
    """With what it has."""
    engine = attrs.evolve(SMALL, kv_tokens=80)
    with pytest.raises(ConfigError, match="calls of 80 tokens"):
        calibrate(engine)


def test_an_engine_that_takes_no_time_is_refused() -> None:
    """There is nothing to be measured."""
    with pytest.raises(ConfigError, match="takes no time"):
        calibrate(attrs.evolve(SMALL, costs=FREE), longest_tokens=64)


def test_shapes_fit_the_engine_and_some_are_held_out() -> None:
    """Whatever its slots."""
    for slots in (1, 2, 3, 4, 64):
        engine = attrs.evolve(SMALL, slots=slots, token_budget=64)
        shapes = grid(engine.capabilities(), 512)
        assert len(set(shapes)) == len(shapes)
        assert {shape.is_held_out for shape in shapes} == {True, False}
        for shape in shapes:
            comes_in = shape.kind is Kind.MIXED
            assert shape.batch + comes_in <= slots
            assert max(shape.context_tokens, shape.prompt_tokens) <= 512
