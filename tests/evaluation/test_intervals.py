"""Ratios over paired seeds."""

import math

import pytest

from autellix.evaluation.intervals import bootstrap, ratio


def test_a_ratio_is_taken_pair_by_pair() -> None:
    """A seed with large programs does not outweigh the others."""
    found = ratio([1.0, 200.0], [2.0, 100.0])
    assert found.value == pytest.approx(1.0)
    assert found.low == pytest.approx(0.5)
    assert found.high == pytest.approx(2.0)
    assert found.is_clear is False


def test_pairs_that_agree_leave_no_doubt() -> None:
    """However much the seeds themselves differ."""
    found = ratio([0.8, 8.0, 80.0], [1.0, 10.0, 100.0])
    assert found.low == pytest.approx(0.8)
    assert found.high == pytest.approx(0.8)
    assert found.is_clear is True


def test_one_seed_has_no_interval() -> None:
    """Nothing is known of what another would say."""
    found = ratio([3.0], [2.0])
    assert found.value == pytest.approx(1.5)
    assert (found.low, found.high, found.is_clear) == (None, None, None)


def test_the_interval_is_the_same_every_time() -> None:
    """Tables do not change because they are made again."""
    ours, theirs = [1.0, 1.3, 0.9, 2.0, 1.1], [1.0] * 5
    assert ratio(ours, theirs) == ratio(ours, theirs)


def test_resamples_of_a_mean_spread_as_theory_says() -> None:
    """The middle 95 % of means of 100 values span about four standard errors."""
    values = [math.sin(7.0 * index) for index in range(100)]
    mean = sum(values) / 100
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 100)
    found = bootstrap(lambda picked: sum(values[i] for i in picked) / 100, 100)
    assert found.value == pytest.approx(mean)
    assert found.low is not None
    assert found.high is not None
    width = found.high - found.low
    assert width == pytest.approx(2 * 1.96 * deviation / 10, rel=0.1)
