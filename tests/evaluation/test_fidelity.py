"""What is told of simulations next to the real runs they are of."""

from collections.abc import Sequence

import pytest

from autellix.evaluation import Result
from autellix.evaluation.fidelity import Verdict, foretold, mean_s, ranked, told
from tests.evaluation.builders import point, result, row


def run(policy: str, seed: int, latency_s: float) -> Result:
    """Return a run whose programs all take as long."""
    counts = {"steps": 100, "pause": 0, "swap": 0, "drop": 0, "promotions": 0}
    rows = [row(latency_s), row(latency_s)]
    return result(point(policy=policy, seed=seed), rows, counts=counts)


def pairs(policy: str, real: list[float], factor: float) -> list[tuple[Result, Result]]:
    """Return a pair a seed; simulated runs take ``factor`` times as long."""
    return [
        (run(policy, seed, latency_s), run(policy, seed, factor * latency_s))
        for seed, latency_s in enumerate(real)
    ]


def test_a_factor_is_simulated_by_real() -> None:
    """Of each policy for itself; its interval is that of the pairs."""
    both = pairs("fcfs", [2.0, 4.0, 8.0], 1.1) + pairs("plas", [1.0, 2.0, 4.0], 0.9)
    first, second = foretold(both, mean_s)
    assert (first.policy, second.policy) == ("fcfs", "plas")
    assert first.real == pytest.approx(14 / 3)
    assert first.simulated == pytest.approx(1.1 * 14 / 3)
    assert first.factor.value == pytest.approx(1.1)
    assert first.factor.low == pytest.approx(1.1)
    assert second.factor.value == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ((1.0, 1.0, 1.0), Verdict.SAME),
        ((1.5, 1.5, 1.5), Verdict.SAME),
        ((2.5, 2.5, 2.5), Verdict.OTHER),
        ((1.0, 2.0, 3.0), Verdict.SIMULATED_TIE),
    ],
)
def test_who_wins_is_compared_where_both_tell(
    factors: Sequence[float], verdict: Verdict
) -> None:
    """PLAS takes half as long for real; simulated too slow by 2.5, it takes longer."""
    both = pairs("fcfs", [2.0, 4.0, 8.0], 1.0) + [
        (run("plas", seed, 2.0**seed), run("plas", seed, factor * 2.0**seed))
        for seed, factor in enumerate(factors)
    ]
    (one,) = ranked(both, mean_s)
    assert one.real.value == pytest.approx(0.5)
    assert one.verdict is verdict


def test_what_real_runs_do_not_tell_apart_is_no_disagreement() -> None:
    """Over one seed nothing is told, nor where seeds contradict one another."""
    single = pairs("fcfs", [2.0], 1.0) + pairs("plas", [1.0], 3.0)
    mixed = pairs("fcfs", [2.0, 2.0], 1.0) + pairs("plas", [1.0, 4.0], 3.0)
    for both in (single, mixed):
        (one,) = ranked(both, mean_s)
        assert one.verdict is Verdict.REAL_TIE


def test_only_seeds_that_both_have_are_compared() -> None:
    """As when an experiment was interrupted."""
    both = pairs("fcfs", [2.0, 4.0], 1.0) + pairs("plas", [1.0], 1.0)
    (one,) = ranked(both, mean_s)
    assert one.real.value == pytest.approx(0.5)
    apart = [pairs("fcfs", [2.0], 1.0)[0], pairs("plas", [1.0, 1.0], 1.0)[1]]
    assert ranked(apart, mean_s) == []


def test_the_text_says_how_far_off_and_in_how_many_pairs_both_agree() -> None:
    """With steps and CPU time, which other work on the machine does not change."""
    both = pairs("fcfs", [2.0, 4.0], 1.2) + pairs("plas", [1.0, 2.0], 1.2)
    text = "\n".join(told(both))
    assert "### chat: 2 seeds" in text
    assert "| fcfs | 3 | 3.6 | 1.20 (1.20 to 1.20) |" in text
    assert "| plas | 100 | 1.00 (1.00 to 1.00) | 0.2 |" in text
    assert "mean latency: real runs tell 1 of 1 pairs of policies apart." in text
    assert "put the same first in 1, the other in 0, and do not tell in 0." in text
