"""Runs of one point, simulated."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest

import autellix.policies
from autellix.errors import ConfigError
from autellix.evaluation import Arrival, Workload, run_point
from autellix.evaluation.measures import measures
from autellix.evaluation.programs import programs_of
from tests.evaluation.builders import point, setup

BUSY = {"programs": 24, "load": 3.0, "setup": setup(slots=4)}


@pytest.mark.slow
def test_the_same_point_has_the_same_result() -> None:
    """To the last digit: a figure can be made again."""
    first, second = (run_point(point(**BUSY, policy="plas")) for _ in range(2))
    assert first.outcome() == second.outcome()
    assert first.code == second.code
    assert first.policy_code == "", "PLAS has no code that FCFS has not"
    learned = run_point(point(**BUSY, policy="gittins"))
    assert learned.code == first.code
    assert learned.policy_code


@pytest.mark.slow
def test_a_result_tells_of_every_program_in_order_of_arrival() -> None:
    """And its sums are those of the programs."""
    asked = point(**BUSY)
    found = run_point(asked)
    programs = programs_of(asked)
    assert [row.calls for row in found.rows] == [len(p.calls) for p in programs]
    assert [row.output_tokens for row in found.rows] == [
        sum(call.output_tokens for call in program.calls) for program in programs
    ]
    starts_s = [row.started_s for row in found.rows]
    assert starts_s == sorted(starts_s)
    assert starts_s[0] == 0.0
    assert sum(found.wait_s.values()) == pytest.approx(
        sum(row.wait_s for row in found.rows)
    )
    assert found.counts["prompt_tokens"] == sum(r.prompt_tokens for r in found.rows)


@pytest.mark.slow
def test_policies_tie_when_idle_and_differ_past_saturation() -> None:
    """The first thing a comparison must show."""

    def mean_s(policy: str, load: float) -> float:
        run = run_point(point(**{**BUSY, "load": load, "policy": policy}))
        return measures(run.rows).token_mean_s

    assert mean_s("plas", 0.05) == pytest.approx(mean_s("fcfs", 0.05), rel=0.01)
    assert mean_s("plas", 3.0) < 0.95 * mean_s("fcfs", 3.0)


@pytest.mark.slow
def test_the_oracle_is_told_sizes() -> None:
    """And does not do worse than those who are not."""
    means_s = {
        policy: measures(run_point(point(**BUSY, policy=policy)).rows).latency_mean_s
        for policy in ("fcfs", "plas", "srpt")
    }
    assert means_s["srpt"] == min(means_s.values())


def test_programs_too_long_for_the_engine_are_refused_before_they_run() -> None:
    """Not in the middle, one after the other."""
    with pytest.raises(ConfigError, match=r"of 6 programs of 'chat' do not fit"):
        run_point(point(setup=setup(slots=4, kv_tokens=160)))


def test_all_at_once_under_a_limit_is_a_closed_loop() -> None:
    """Never more programs than that are under way."""
    asked = point(programs=8, arrivals=Arrival.AT_ONCE, load=None, limit=2)
    rows = run_point(asked).rows
    ends_s = [row.started_s + row.latency_s for row in rows]
    for row in rows:
        under_way = sum(
            other.started_s <= row.started_s < end_s
            for other, end_s in zip(rows, ends_s, strict=True)
        )
        assert under_way <= 2


@pytest.mark.slow
def test_engines_share_the_load() -> None:
    """Twice the engines, twice the rate, about the same latency."""
    one = point(**{**BUSY, "load": 0.5})
    two = point(**{**BUSY, "load": 0.5, "setup": setup(engines=2, slots=4)})
    first, second = run_point(one), run_point(two)
    assert second.saturation_per_s == pytest.approx(2 * first.saturation_per_s)
    assert measures(second.rows).latency_mean_s == pytest.approx(
        measures(first.rows).latency_mean_s, rel=0.3
    )


@pytest.mark.slow
def test_calls_may_say_which_they_follow() -> None:
    """Policies that look at the graph see it (rule A6)."""
    for tells in (False, True):
        workload = Workload(source="search", tells_parents=tells)
        run = run_point(point(workload=workload, programs=2, policy="atlas"))
        assert len(run.rows) == 2


def test_all_code_of_policies_is_in_a_digest() -> None:
    """A policy with a folder of its own is installed under the folder's name."""
    policies = Path(autellix.policies.__file__).parent
    folders = {path.parent.name for path in policies.glob("*/*.py")}
    assert folders <= {kind.name for kind in entry_points(group="autellix.policies")}
    assert not list(policies.glob("*/*/*.py"))
