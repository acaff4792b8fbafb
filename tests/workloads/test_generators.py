"""Generated programs are like the measured ones, in means and tails."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import attrs
import pytest

from autellix.workloads.generators import GENERATORS, chat, mixed, react, search
from autellix.workloads.generators.distributions import Draws, Quantiles, shares
from autellix.workloads.trace import Trace, TraceProgram
from autellix.workloads.trace_file import read_trace, write_trace


@attrs.frozen
class Measured:
    """What a real trace has, and how near a generated one comes."""

    mean: float
    p50: float
    p99: float
    rel: float
    """Of mean and median."""
    tail_rel: float
    """Of the 99th percentile."""


# From the statistics of the real traces (docs/workloads.md says of which).
CHAT = {
    "calls": Measured(6.48, 3, 56, 0.05, 0.15),
    "new_prompt_tokens": Measured(98.8, 26, 1301, 0.05, 0.25),
    "prompt_tokens": Measured(6202, 1753, 74751, 0.10, 0.15),
    "output_tokens": Measured(274.7, 251, 769, 0.04, 0.05),
    "output_tokens of a program": Measured(1779, 743, 14085, 0.10, 0.35),
    "width": Measured(1, 1, 1, 0, 0),
    "depth": Measured(6.48, 3, 56, 0.05, 0.15),
}
REACT = {
    "calls": Measured(10.09, 10, 16, 0.03, 0.10),
    "new_prompt_tokens": Measured(686.9, 32, 6997, 0.10, 0.05),
    "prompt_tokens": Measured(6292, 5710, 28896, 0.10, 0.15),
    "output_tokens": Measured(33.9, 21, 197, 0.06, 0.20),
    "output_tokens of a program": Measured(341.5, 317, 800, 0.06, 0.40),
    "width": Measured(1, 1, 1, 0, 0),
    "depth": Measured(10.09, 10, 16, 0.03, 0.10),
}
SEARCH = {
    "calls": Measured(119.0, 50, 393, 0.10, 0.05),
    "new_prompt_tokens": Measured(156.6, 0, 2678, 0.15, 0.15),
    "prompt_tokens": Measured(2928, 2740, 6157, 0.10, 0.10),
    "output_tokens": Measured(48.6, 45, 100, 0.04, 0.01),
    "output_tokens of a program": Measured(5788, 2221, 21841, 0.10, 0.05),
    "width": Measured(5, 5, 5, 0, 0),
    "depth": Measured(29.5, 13, 94, 0.10, 0.05),
}


def _levels(program: TraceProgram) -> list[int]:
    """Return on which level of the graph each call is, from 1 on."""
    levels: list[int] = []
    for call in program.calls:
        levels.append(1 + max((levels[parent] for parent in call.parents), default=0))
    return levels


def _figures(programs: Sequence[TraceProgram]) -> dict[str, list[int]]:
    levels = [_levels(program) for program in programs]
    calls = [call for program in programs for call in program.calls]
    outputs = [sum(call.output_tokens for call in p.calls) for p in programs]
    return {
        "calls": [len(program.calls) for program in programs],
        "new_prompt_tokens": [call.new_prompt_tokens for call in calls],
        "prompt_tokens": [call.prompt_tokens for call in calls],
        "output_tokens": [call.output_tokens for call in calls],
        "output_tokens of a program": outputs,
        "width": [max(Counter(each).values()) for each in levels],
        "depth": [max(each) for each in levels],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generate", "count", "measured"),
    [(chat, 4_000, CHAT), (react, 2_000, REACT), (search, 600, SEARCH)],
)
def test_generated_programs_match_the_measured_ones(
    generate: Callable[..., Trace], count: int, measured: dict[str, Measured]
) -> None:
    """Calls, tokens, width and depth have the mean, median and tail of real ones."""
    for name, values in _figures(generate(count, seed=0).programs).items():
        target = measured[name]
        values.sort()
        median, tail = values[len(values) // 2], values[len(values) * 99 // 100]
        assert fmean(values) == pytest.approx(target.mean, rel=target.rel), name
        assert tail == pytest.approx(target.p99, rel=target.tail_rel), name
        assert median == pytest.approx(target.p50, rel=target.rel + 0.05), name


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_gives_the_same_programs_however_many(name: str) -> None:
    """Programs can be added to a run without changing those it had."""
    generate = GENERATORS[name]
    few, many = generate(4, seed=7).programs, generate(9, seed=7).programs
    assert many[:4] == few
    assert generate(4, seed=8).programs != few


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generated_trace_survives_a_file(name: str, tmp_path: Path) -> None:
    """What generators yield is a trace like any other, and says that it is made up."""
    trace = GENERATORS[name](3)
    write_trace(tmp_path / "t.gz", trace)
    assert read_trace(tmp_path / "t.gz") == trace
    assert all("structure" in program.synthetic for program in trace.programs)


def test_a_mix_has_as_many_of_each() -> None:
    """Each kind has a third, and is what its own generator makes."""
    programs = mixed(150, seed=1).programs
    classes = Counter(program.program_class for program in programs)
    assert classes.keys() == {"chat", "agent", "search"}
    assert all(35 <= count <= 65 for count in classes.values())
    at = next(n for n, p in enumerate(programs) if p.program_class == "agent")
    assert programs[at] == react(at + 1, seed=1).programs[at]


def test_programs_of_one_tool_set_share_its_docs() -> None:
    """A prefix group has one length, and there are as many groups as measured."""
    tokens: dict[str, set[int]] = {}
    for program in react(300).programs:
        assert program.prefix_group is not None
        assert program.group_prefix_tokens is not None
        groups = tokens.setdefault(program.prefix_group, set())
        groups.add(program.group_prefix_tokens)
    assert len(tokens) == 26
    assert all(len(each) == 1 for each in tokens.values())


def test_outputs_of_one_conversation_are_alike() -> None:
    """Neighbours correlate as measured, so that programs differ as much as they do."""
    pairs = [
        (math.log(before.output_tokens), math.log(after.output_tokens))
        for program in chat(1_000).programs
        for before, after in pairwise(program.calls)
    ]
    mean = fmean(before for before, _ in pairs)
    together = fmean((a - mean) * (b - mean) for a, b in pairs)
    spread = fmean((a - mean) ** 2 for a, _ in pairs)
    assert 0.4 < together / spread < 0.65


def test_draws_have_the_quantiles_that_were_stated() -> None:
    """Also where the draws of a program are alike."""
    table = Quantiles(((0.0, 1.0), (0.5, 10.0), (0.9, 1_000.0), (1.0, 10_000.0)))
    drawn = sorted(Draws(f"{n}").amount(table, alike=0.5) for n in range(4_000))
    assert drawn[2_000] == pytest.approx(10.0, rel=0.2)
    assert drawn[3_600] == pytest.approx(1_000.0, rel=0.3)
    assert table.at(0.25) == pytest.approx(math.sqrt(10.0))


def test_counts_come_as_often_as_counted() -> None:
    """A table of counts is exact, also for numbers never seen."""
    table = shares((1, 0, 3))
    draws = Draws("counts")
    drawn = Counter(draws.number(table) for _ in range(4_000))
    assert drawn.keys() == {1, 3}
    assert drawn[1] == pytest.approx(1_000, rel=0.1)


@pytest.mark.parametrize(
    "points",
    [
        ((0.0, 1.0), (0.9, 2.0)),
        ((0.1, 1.0), (1.0, 2.0)),
        ((0.0, 0.0), (1.0, 2.0)),
        ((0.0, 3.0), (1.0, 2.0)),
        ((0.0, 1.0), (0.7, 2.0), (0.6, 3.0), (1.0, 4.0)),
    ],
)
def test_quantiles_that_are_none_are_refused(
    points: tuple[tuple[float, float], ...],
) -> None:
    """They rise from probability 0 to 1, and values are above 0."""
    with pytest.raises(ValueError, match=r"quantiles (rise|do not fall)"):
        Quantiles(points)
