"""The benchmark of Gittins: what it runs, and what it makes of results."""

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from autellix.evaluation import Point, Result, Store
from autellix.evaluation.lessons import Lessons
from autellix.policies.gittins import (
    ClassSizes,
    IndexTable,
    Objective,
    SizeModel,
    Sizes,
)
from autellix.workloads.generators import chat
from autellix.workloads.trace import Trace
from autellix.workloads.trace_file import write_trace
from benchmarks.gittins.__main__ import arguments
from benchmarks.gittins.bounds import Figures, report
from benchmarks.gittins.plan import (
    BASELINES,
    CHANGED,
    CHAT,
    COLD,
    MIXED,
    ONE_NAME,
    PER_TOKEN,
    REACT,
    SEARCH,
    WARM,
    Plan,
    Run,
)
from benchmarks.gittins.regret import draw, over_time
from tests.evaluation.builders import result, row

CLASSES = {CHAT: "chat", REACT: "agent", SEARCH: "search"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Return a plan of three workloads, on recordings of one short program each."""
    program = chat(1, seed=1).programs[0]
    for name, program_class in CLASSES.items():
        named = attrs.evolve(program, program_class=program_class)
        trace = Trace(source="s", program_class=program_class, programs=[named])
        write_trace(tmp_path / f"{name}.jsonl.gz", trace)
    workloads = [CHAT, REACT, SEARCH, MIXED, ONE_NAME]
    return Plan(
        traces=tmp_path,
        workloads=workloads,
        loads=[1.3],
        seeds=2,
        programs=40,
        retains_prefixes=True,
    )


def ran(run: Run, point: Point) -> Result:
    """Return what a run might have come to: PLAS best, Gittins worse by a tenth."""
    latency_s = {"plas": 10.0, COLD: 11.0, WARM: 10.4, CHANGED: 10.4, PER_TOKEN: 5.0}
    sizes = ClassSizes(ended=[Sizes(1.0 + run.seed, 9.0)])
    name = CLASSES.get(run.workload, "agent")
    lessons = Lessons.of(
        IndexTable(
            model=SizeModel(classes={name: sizes}),
            objective=Objective.LATENCY,
            first_s=0.01,
        )
    )
    rows = [row(latency_s.get(run.policy, 20.0)) for _ in range(10)]
    return result(point, rows, lessons=lessons if run.policy == COLD else None)


def add(store: Store, points: Mapping[Run, Point]) -> None:
    """Put results into a store, without a disk."""
    for run, point in points.items():
        store._results[point.key] = ran(run, point)


@pytest.fixture
def results(plan: Plan, tmp_path: Path) -> dict[Run, Result]:
    """Return results of all runs."""
    store = Store(tmp_path / "none")
    for stage in (plan.first, lambda: plan.second(store)):
        add(store, stage())
    return plan.results(store)


def test_a_warm_start_takes_the_model_of_another_seed(
    plan: Plan, tmp_path: Path
) -> None:
    """Of the same workload; where the load changes, that of chat under the name."""
    store = Store(tmp_path / "none")
    assert plan.second(store) == {}
    add(store, plan.first())
    second = plan.second(store)
    sizes = {"ended": [[2.0, 9.0]], "running": []}
    for policy in (WARM, CHANGED):
        named = second[Run(REACT, 1.3, policy, 0)].policy
        assert isinstance(named, dict)
        assert named["model"]["classes"] == {"agent": sizes}
    assert {run.workload for run in second if run.policy == CHANGED} == {REACT}


def test_one_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to start warm from, and the value is shown."""
    with pytest.raises(SystemExit):
        arguments(["--out", "out", "--seeds", "1"])
    assert "--seeds: a warm start takes another seed's: 1" in capsys.readouterr().err


def test_searches_are_fewer_and_one_name_hides_the_kinds(plan: Plan) -> None:
    """A run of searches would take ten times as long as the others."""
    points = plan.first()
    assert points[Run(CHAT, 1.3, "fcfs", 0)].programs == 40
    assert points[Run(SEARCH, 1.3, "fcfs", 0)].programs == 12
    assert points[Run(ONE_NAME, 1.3, COLD, 0)].workload.program_class == "agent"


def test_what_does_not_look_at_names_is_not_run_twice(
    plan: Plan, results: dict[Run, Result]
) -> None:
    """Mixed under one name is compared with what was run under three."""
    assert not {run.policy for run in plan.first() if run.workload == ONE_NAME} & {
        *BASELINES
    }
    one_name = results[Run(ONE_NAME, 1.3, "plas", 1)]
    assert one_name is results[Run(MIXED, 1.3, "plas", 1)]


def test_on_chains_plas_stands_for_atlas(
    plan: Plan, results: dict[Run, Result]
) -> None:
    """They decide alike there, so one is run; searches run both."""
    alone = {run.workload for run in plan.first() if run.policy == "atlas"}
    assert alone == {SEARCH, MIXED}
    for seed in range(2):
        assert results[Run(CHAT, 1.3, "atlas", seed)].point.policy == "plas"


def test_figures_stand_beside_their_bounds(
    plan: Plan, results: dict[Run, Result]
) -> None:
    """And what is missed is marked."""
    assert Figures(results).best(CHAT, 1.3) == "plas"
    lines = report(plan, results, "the command").splitlines()
    rows = [line.split("|") for line in lines[8:] if line.count("|") == 4]
    told = {cells[1].strip(): cells[3].strip() for cells in rows}
    assert told[f"warm, against the best of five: {CHAT}"] == "1.04 (1.04 to 1.04)"
    assert told[f"cold, against PLAS: {MIXED}"] == "1.10 (1.10 to 1.10) **missed**"
    per_token = f"s/token, its own objective, cold, against PLAS: {MIXED}"
    assert told[per_token] == "0.50 (0.50 to 0.50)"
    assert told["gittins against srpt, mean over workloads"] == "0.55"
    changed = "chat, then ReAct: after 200 programs, against a model of ReAct: bfcl_ref"
    assert told[changed] == "1.00 (1.00 to 1.00)"


def test_the_best_of_five_is_found_on_the_seeds_that_all_of_them_have(
    results: dict[Run, Result],
) -> None:
    """In the middle of a sweep one policy may have had an easy seed only."""
    del results[Run(CHAT, 1.3, "plas", 0)]
    easy = Run(CHAT, 1.3, "fcfs", 0)
    results[easy] = attrs.evolve(results[easy], rows=[row(1.0)] * 10)
    assert Figures(results).best(CHAT, 1.3) == "plas"


def test_what_is_not_there_yet_leaves_its_cell_empty(plan: Plan) -> None:
    """A table can be looked at while it is made."""
    assert "| ≤ 1.05 |  |" in report(plan, {}, "the command")


def test_regret_is_that_of_the_programs_that_arrived_last() -> None:
    """A window of them, all as long as there are fewer."""
    ends, ratios = over_time([4.0, 2.0, 1.0, 1.0], [1.0] * 4, 2)
    assert ends == [1, 2, 3, 4]
    assert ratios == [4.0, 3.0, 1.5, 1.0]


@pytest.mark.slow
def test_regret_is_drawn(
    plan: Plan, results: dict[Run, Result], tmp_path: Path
) -> None:
    """A panel a workload, of what there is."""
    pytest.importorskip("matplotlib")
    draw(plan, results, tmp_path / "regret.png")
    assert (tmp_path / "regret.png").read_bytes().startswith(b"\x89PNG")
