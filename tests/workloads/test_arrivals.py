"""Arrivals have the rate that was asked for and the pattern that was recorded."""

from collections.abc import Callable
from itertools import pairwise

import attrs
import pytest

from autellix.workloads.arrivals import AllAtOnce, Arrivals, At, Bursts, Poisson
from autellix.workloads.trace import TraceCall, TraceProgram

CALL = TraceCall(parents=[], prompt_tokens=5, output_tokens=5)
PROGRAM = TraceProgram(
    program_id="p", program_class="chat", source="x", tokenizer="x", calls=[CALL]
)


def _arriving(*instants_s: float | None) -> list[TraceProgram]:
    return [
        attrs.evolve(PROGRAM, program_id=f"{n}", arrival_s=instant_s)
        for n, instant_s in enumerate(instants_s)
    ]


def _gaps_s(arrivals: Arrivals, count: int, seed: int = 0) -> list[float]:
    instants_s = arrivals.instants_s(count, seed=seed)
    return [after - before for before, after in pairwise(instants_s)]


def test_arrivals_are_poisson() -> None:
    """The gaps between arrivals have the mean and the spread of their rate."""
    gaps_s = _gaps_s(Poisson(per_s=0.5), 20_000)
    mean_s = sum(gaps_s) / len(gaps_s)
    variance = sum((gap_s - mean_s) ** 2 for gap_s in gaps_s) / len(gaps_s)
    assert mean_s == pytest.approx(2.0, rel=0.03)
    assert variance == pytest.approx(4.0, rel=0.06)


@pytest.mark.parametrize(
    "arrivals", [Poisson(per_s=2.0), Bursts(recorded_s=(0, 1, 1, 9), per_s=2.0)]
)
def test_a_seed_says_when(arrivals: Arrivals) -> None:
    """The same seed gives the same arrivals, another one others."""
    again = arrivals.instants_s(5, seed=3)
    assert arrivals.instants_s(5, seed=3) == again
    assert any(arrivals.instants_s(5, seed=seed) != again for seed in range(4, 9))


def test_bursts_keep_their_proportions_at_another_rate() -> None:
    """However far one goes, gaps are the recorded ones in their order, scaled."""
    bursts = Bursts.of(_arriving(7.0, 7.0, 7.0, 13.0), per_s=1.0)
    gaps_s = _gaps_s(bursts, 9)  # recorded: 0, 0, 6 and the mean, 2
    turned = gaps_s.index(3.0)
    assert (gaps_s[turned:] + gaps_s[:turned])[:4] == [3.0, 1.0, 0.0, 0.0]
    assert gaps_s[4:] == gaps_s[:4]


def test_bursts_have_the_rate_asked_for() -> None:
    """So many programs a second, once round or ten times."""
    bursts = Bursts(recorded_s=(0.0, 0.5, 0.6, 40.0, 41.0), per_s=4.0)
    assert bursts.instants_s(50, seed=5)[-1] == pytest.approx(50 / 4.0)


def test_a_recording_arrives_as_it_did() -> None:
    """Counted from its first arrival; seeds change nothing."""
    at = At.of(_arriving(10.0, 10.5, 12.0))
    assert at.instants_s(3, seed=1) == (0.0, 0.5, 2.0)
    assert at.instants_s(2, seed=2) == (0.0, 0.5)


def test_an_offline_batch_is_there_at_once() -> None:
    """All of it."""
    assert AllAtOnce().instants_s(3, seed=0) == [0.0, 0.0, 0.0]


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no load": (lambda: Poisson(per_s=0.0), "above 0 a second: 0.0"),
    "less than none": (lambda: Poisson(per_s=-1.0), "-1.0"),
    "no number": (lambda: Poisson(per_s=float("nan")), "nan"),
    "endless load": (lambda: Poisson(per_s=float("inf")), "inf"),
    "bursts of no load": (lambda: Bursts(recorded_s=(0, 1), per_s=0.0), "above 0"),
    "one arrival": (lambda: Bursts(recorded_s=(3.0,), per_s=1.0), "got 1 arrivals"),
    "one instant": (lambda: Bursts(recorded_s=(3.0, 3.0), per_s=1.0), "two instants"),
    "back in time": (lambda: At(given_s=(1.0, 0.5)), "0.5 after 1.0"),
    "too few": (lambda: At(given_s=(1.0,)).instants_s(2, seed=0), "2 programs, but 1"),
    "not recorded": (lambda: At.of(_arriving(0.0, None)), "program '1' has no"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_arrive_is_refused(name: str) -> None:
    """The message shows the value."""
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()
