"""Figures of a run, against ones worked out by hand."""

import pytest

from autellix.evaluation.measures import (
    breakdown,
    by_class,
    jain,
    measures,
    percentile,
)
from tests.evaluation.builders import point, result, row


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1), (50, 50), (95, 95), (99, 99), (100, 100)]
)
def test_percentiles_are_values_that_occur(percent: int, expected: int) -> None:
    """The smallest that so many per cent do not exceed."""
    assert percentile(range(1, 101), percent) == expected
    assert percentile([3.0], percent) == 3.0


def test_a_run_in_figures() -> None:
    """Two programs, one arriving later, one with more tokens."""
    rows = [
        row(2.0, output_tokens=10, alone_s=1.0),
        row(6.0, output_tokens=60, alone_s=6.0, started_s=3.0, cached_tokens=100),
    ]
    found = measures(rows)
    assert found.programs == 2
    assert found.latency_mean_s == 4.0
    assert found.latency_p50_s == 2.0
    assert found.latency_p99_s == 6.0
    assert found.token_mean_s == pytest.approx((0.2 + 0.1) / 2)
    assert found.token_p95_s == pytest.approx(0.2)
    assert found.makespan_s == 9.0
    assert found.slowdown_mean == 1.5
    assert found.fairness == pytest.approx(9 / 10)
    assert found.cache_hit_rate == 0.7


def test_fairness_is_one_for_equals_and_falls_to_one_in_n() -> None:
    """Jain's index, at both ends."""
    assert jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([0.0, 0.0]) == 1.0


def test_classes_are_measured_apart() -> None:
    """A mean over all says nothing of each."""
    rows = [row(1.0), row(9.0, program_class="search"), row(3.0)]
    found = by_class(rows)
    assert {name: one.latency_mean_s for name, one in found.items()} == {
        "chat": 2.0,
        "search": 9.0,
    }


def test_time_is_broken_down_by_program() -> None:
    """Waits by reason: for room, for KV on its way, for a decision."""
    waits = {"slots": 4.0, "intake": 1.0, "paused": 1.0, "swap": 3.0, "round": 0.5}
    found = breakdown(result(point(), [row(), row(service_s=2.0)], wait_s=waits))
    assert found.service_s == 1.5
    assert (found.queue_s, found.swap_s, found.round_s) == (3.0, 1.5, 0.25)
