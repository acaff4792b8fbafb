"""Throughput at equal latency."""

import pytest

from autellix.evaluation.equal_latency import carried


def test_the_load_is_interpolated_between_those_of_the_sweep() -> None:
    """On the logarithm of latency: halfway between 1 and 100 is 10."""
    curve = {1.0: [1.0], 2.0: [100.0]}
    found = carried(curve, curve, 10.0)
    assert found is not None
    assert found.load == pytest.approx(1.5)
    assert found.gain is not None
    assert found.gain.value == pytest.approx(1.0)
    assert not found.is_at_least


def test_the_gain_is_a_ratio_of_loads() -> None:
    """The baseline is there at 1.0, ours at 1.5."""
    baseline = {0.5: [1.0, 1.0], 1.5: [100.0, 100.0], 2.0: [300.0, 300.0]}
    ours = {0.5: [0.9, 0.9], 1.5: [10.0, 10.0], 2.0: [300.0, 300.0]}
    found = carried(ours, baseline, 10.0)
    assert found is not None
    assert found.gain is not None
    assert found.gain.value == pytest.approx(1.5)
    assert found.gain.low == pytest.approx(1.5)


def test_a_policy_that_never_gets_so_slow_carries_at_least_the_largest_load() -> None:
    """The sweep ends before the policy does."""
    baseline = {1.0: [1.0], 2.0: [100.0]}
    found = carried({1.0: [1.0], 2.0: [3.0]}, baseline, 10.0)
    assert found is not None
    assert (found.load, found.is_at_least) == (2.0, True)
    assert found.gain is not None
    assert found.gain.value == pytest.approx(2.0 / 1.5)


def test_a_policy_that_is_always_slower_carries_less_than_the_sweep_has() -> None:
    """There is nothing to interpolate."""
    curve = {1.0: [1.0], 2.0: [100.0]}
    assert carried({1.0: [20.0], 2.0: [30.0]}, curve, 10.0) is None


@pytest.mark.parametrize(
    "baseline", [{1.0: [1.0], 2.0: [5.0]}, {1.0: [50.0], 2.0: [70.0]}]
)
def test_without_a_crossing_of_the_baseline_there_is_no_gain(
    baseline: dict[float, list[float]],
) -> None:
    """It may carry more, or less, than the sweep has: nobody knows how much."""
    found = carried({1.0: [1.0], 2.0: [100.0]}, baseline, 10.0)
    assert found is not None
    assert found.gain is None


def test_seeds_that_disagree_make_the_gain_uncertain() -> None:
    """Resampling picks them one by one."""
    baseline = {1.0: [1.0, 1.0], 2.0: [100.0, 100.0]}
    ours = {1.0: [1.0, 1.0], 2.0: [100.0, 12.0]}
    found = carried(ours, baseline, 10.0)
    assert found is not None
    assert found.gain is not None
    assert found.gain.low == pytest.approx(1.0)
    assert found.gain.high is not None
    assert found.gain.high > 1.2
