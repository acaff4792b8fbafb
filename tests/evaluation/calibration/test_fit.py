"""Costs fitted to points whose times are known."""

import random

import attrs
import pytest

from autellix.core.cost_model import CostModel
from autellix.errors import ConfigError
from autellix.evaluation.calibration import (
    Calibrated,
    Features,
    Kind,
    Point,
    Shape,
    fitted,
)
from autellix.evaluation.calibration.fit import fitted_ns

COSTS = CostModel(
    step_ns=50_000_000,
    prefill_ns=1_500_000,
    decode_ns=3_000_000,
    context_ns=9_000,
    pair_ps=1_000_000,
    transfer_ns=7,
    block_transfer_ns=8,
    nominal_batch=4,
)
DID = [
    *(Features(1, 0, n, n * read, 0) for n in (1, 2, 4) for read in (16, 128, 512)),
    *(Features(n // 256 + 1, n, 0, 0, n * n // 2) for n in (16, 64, 128, 255, 600)),
]


def point(did: Features, measured_ns: float, *, is_held_out: bool = False) -> Point:
    """Return a point as it might have been measured."""
    shape = Shape(kind=Kind.DECODE, is_held_out=is_held_out)
    return Point(
        shape=shape, features=did, measured_ns=measured_ns, spread=0.0, repeats=5
    )


def points(costs: CostModel, factor: float = 1.0) -> list[Point]:
    """Return what would be measured on an engine of these costs."""
    return [point(did, factor * fitted_ns(did, costs)) for did in DID]


def test_exact_times_give_exact_costs() -> None:
    """And what is not fitted is taken over."""
    like = attrs.evolve(COSTS, step_ns=1, prefill_ns=1, decode_ns=1, pair_ps=1)
    assert fitted(points(COSTS), like=like) == COSTS


def test_points_that_no_costs_tell_pull_little() -> None:
    """Two wild medians of fourteen move the others' fit by less than a hundredth."""
    wild = points(COSTS)
    wild[0] = attrs.evolve(wild[0], measured_ns=4 * wild[0].measured_ns)
    wild[7] = attrs.evolve(wild[7], measured_ns=3 * wild[7].measured_ns)
    costs = fitted(wild, like=COSTS)
    for one in points(COSTS):
        assert abs(one.error(costs)) < 0.01


def test_noise_is_averaged_out() -> None:
    """Five per cent on each point leave less than that on the whole."""
    chance = random.Random(1)
    noisy = [
        attrs.evolve(one, measured_ns=one.measured_ns * chance.uniform(0.95, 1.05))
        for one in points(COSTS)
    ]
    costs = fitted(noisy, like=COSTS)
    errors = [abs(one.error(costs)) for one in points(COSTS)]
    assert max(errors) < 0.05


def test_no_term_is_negative() -> None:
    """Also where larger batches came out faster, as on a machine with other work."""
    did = [Features(1, 0, n, 16 * n, 0) for n in (1, 2, 4, 8)]
    odd = [point(one, 5e7 - 2e6 * one.decoders) for one in did]
    costs = fitted(odd, like=COSTS)
    assert min(attrs.asdict(costs).values()) >= 0
    assert costs.step_ns > 0


def test_what_is_held_out_is_only_predicted() -> None:
    """Its error is told apart from that of the points fitted to."""
    out = point(DID[3], 2.0 * fitted_ns(DID[3], COSTS), is_held_out=True)
    used = [*points(COSTS), out]
    costs = fitted(used, like=COSTS)
    assert costs == COSTS
    found = Calibrated(costs=costs, points=used)
    assert found.errors(held_out=True)["largest"] == pytest.approx(0.5)
    assert found.errors(held_out=False)["largest"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("measured", [[], points(COSTS, factor=0.0)])
def test_an_engine_that_takes_no_time_has_no_costs(measured: list[Point]) -> None:
    """That is said, not divided by."""
    with pytest.raises(ConfigError, match="takes no time"):
        fitted(measured, like=COSTS)
