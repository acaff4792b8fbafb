"""Tables and pictures, from results made by hand."""

from pathlib import Path

import pytest

from autellix.evaluation import Result, pictures
from autellix.evaluation.comparison import Cell, settings_of
from autellix.evaluation.pictures import draw
from autellix.evaluation.sweep import Sweep, sweep_from
from autellix.evaluation.table import report
from tests.evaluation.builders import result, row

LATENCY_S = {("fcfs", 0.5): 1.0, ("plas", 0.5): 1.0, ("fcfs", 2.0): 100.0}
CLASSES = ("chat", "search")


def made(**changes: object) -> tuple[Sweep, list[Result]]:
    """Return a sweep of two policies, PLAS ten times as fast past saturation."""
    sweep = sweep_from(
        {
            "name": "made",
            "workloads": ["chat"],
            "policies": ["fcfs", "plas"],
            "loads": [0.5, 2.0],
            "seeds": 2,
            "programs": 4,
            **changes,
        }
    )
    results = []
    for point in sweep.points:
        latency_s = LATENCY_S.get((str(point.policy), point.load or 0.0), 10.0)
        rows = [row(latency_s, program_class=CLASSES[n % 2]) for n in range(4)]
        results.append(result(point, rows))
    return sweep, results


def test_policies_are_compared_with_the_first_by_load() -> None:
    """Ties as ties, gains as gains."""
    text = report([made()], "autellix bench --x")
    assert "Saturation (load 1), programs/s: 0.500." in text
    assert "| 0.5 | plas | 1.00 | 1.00 (1.00 to 1.00) |" in text
    assert "| 2 | plas | 10.0 | 0.10 (0.10 to 0.10) |" in text
    assert "| 2 | fcfs | 100 |  |" in text


def test_ratios_of_all_settings_come_first() -> None:
    """The baseline's own figures beside them; nothing where nothing was run."""
    sweep, results = made(engine=[{"slots": 4}, {"slots": 8}])
    lines = report([(sweep, results[:-1])], "c").splitlines()
    start = lines.index("| setting | load | fcfs | plas |")
    assert lines[start + 2 : start + 6] == [
        "| chat, slots 4 | 0.5 | 1.00 s; 0.100; 0.100 | 1.00; 1.00; 1.00 |",
        "| chat, slots 4 | 2 | 100 s; 10.0; 10.0 | 0.10; 0.10; 0.10 |",
        "| chat, slots 8 | 0.5 | 1.00 s; 0.100; 0.100 | 1.00; 1.00; 1.00 |",
        "| chat, slots 8 | 2 | 100 s; 10.0; 10.0 | 0.10; 0.10; 0.10 |",
    ]
    unpaired = report([(sweep, [results[0], results[-1]])], "c")
    assert "| chat, slots 8 | 2 |  | ?; ?; ? |" in unpaired


def test_throughput_at_equal_latency_is_shown() -> None:
    """PLAS reaches twice its idle latency at a higher load."""
    text = report([made()], "c")
    (plas,) = (line for line in text.splitlines() if line.startswith("| plas |"))
    # ln 2 / ln 100 and ln 2 / ln 10 of the way from load 0.5 to 2
    assert plas.startswith("| plas | 0.95, x 1.31")


def test_classes_are_shown_where_there_are_several() -> None:
    """A line a class and policy."""
    assert "| 2 | search | plas | 10.0 |" in report([made()], "c")


@pytest.mark.slow
def test_a_report_says_where_it_comes_from() -> None:
    """Command, schema, version, code; and whether runs are missing."""
    sweep, results = made()
    whole = report([(sweep, results)], "autellix bench --x")
    assert "Command: `autellix bench --x`" in whole
    assert "autellix-result/2, 8 runs, version `" in whole
    assert "## made\n" in whole
    part = report([(sweep, results[:3])], "c")
    assert "## made (3 of 8 runs)" in part
    assert "same code" not in whole
    mixed = [result(sweep.points[0], [row()], code="other"), *results[1:]]
    assert "Not all runs are of the same code" in report([(sweep, mixed)], "c")


def test_settings_are_told_apart_by_what_differs() -> None:
    """And by nothing else."""
    _, results = made(engines=[1, 2], engine=[{"slots": 4}, {"slots": 8}])
    titles = [setting.title for setting in settings_of(results, "fcfs")]
    assert titles == [
        f"chat, engines {engines}, slots {slots}"
        for engines in (1, 2)
        for slots in (4, 8)
    ]
    assert [one.title for one in settings_of(made()[1], "fcfs")] == ["chat"]


@pytest.mark.parametrize("short", ["fcfs", "plas"])
def test_a_part_of_the_seeds_is_compared_in_pairs(short: str) -> None:
    """A seed that only one of the two has does not count."""
    sweep, results = made()
    fewer = [
        one
        for one in results
        if not (one.point.seed == 1 and one.point.policy == short)
    ]
    assert "| 2 | plas | 10.0 | 0.10 |" in report([(sweep, fewer)], "c")


@pytest.mark.slow
@pytest.mark.parametrize("loads", [[0.5, 2.0], []])
def test_pictures_are_drawn(tmp_path: Path, loads: list[float]) -> None:
    """With a sweep of loads and without."""
    arrivals = "poisson" if loads else "at-once"
    _, results = made(loads=loads, arrivals=arrivals)
    (setting,) = settings_of(results, "fcfs")
    draw(setting, "title", tmp_path / "a" / "one.png")
    assert (tmp_path / "a" / "one.png").read_bytes().startswith(b"\x89PNG")


BALANCERS = ["round-robin", "locality-aware"]


def test_balancers_are_compared_where_there_is_one_policy() -> None:
    """As lines of one table, by the first, whatever has been run of it yet."""
    sweep, results = made(policies=["plas"], balancers=BALANCERS)
    text = report([(sweep, results)], "c")
    assert "### chat, policy plas\n" in text
    assert "| load | balancer | mean, s |" in text
    assert "| 2 | locality-aware | 10.0 | 1.00 (1.00 to 1.00) |" in text
    assert [name for name in BALANCERS if f"| 2 | {name} | 10.0 |" in text] == BALANCERS
    rest = report([(sweep, results[1:2])], "c")
    assert "| 0.5 | locality-aware | 1.00 |  |" in rest, "nothing to compare with"


def test_policies_are_compared_under_each_balancer() -> None:
    """What is compared differs in one thing."""
    sweep, results = made(balancers=BALANCERS)
    text = report([(sweep, results)], "c")
    for balancer in BALANCERS:
        assert f"### chat, balancer {balancer}\n" in text
    assert text.count("| 2 | plas | 10.0 | 0.10 (0.10 to 0.10) |") == 2


def test_the_legend_stands_beside_the_bars() -> None:
    """Also where the last part of the longest bar has no length."""
    figures = pytest.importorskip("matplotlib.figure")
    _, results = made()
    (setting,) = settings_of(results, "fcfs")
    axes = figures.Figure().subplots()
    still = {"slots": 4.0, "swap": 1.0, "round": 0.0}
    cells = [
        Cell(
            name=cell.name,
            load=2.0,
            results={0: result(one.point, one.rows, wait_s=still)},
        )
        for cell in setting.cells[2.0].values()
        for one in list(cell.results.values())[:1]
    ]
    pictures._draw_parts(axes, cells)
    longest = max(bar.get_x() + bar.get_width() for bar in axes.patches)
    assert axes.get_xlim()[1] > 1.4 * longest
