"""What is compared, from tables and files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from autellix.config.plugins import policy_from
from autellix.errors import ConfigError
from autellix.evaluation import Arrival, Point, sweeps_in
from autellix.evaluation.point import label
from autellix.evaluation.sweep import sweep_from
from autellix.policies.gittins import ClassSizes, Gittins, SizeModel, Sizes
from autellix.runtime import save_sizes

TABLE = {"workloads": ["chat"], "policies": ["fcfs", "plas"], "loads": [1.0]}


def refused(**changes: Any) -> str:
    """Return all that is said of a table that cannot be."""
    with pytest.raises(ConfigError) as caught:
        sweep_from({**TABLE, "programs": 10, **changes})
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


def test_every_combination_is_a_point() -> None:
    """Each once."""
    sweep = sweep_from(
        {
            "workloads": ["chat", {"source": "react", "gaps": "shell"}],
            "policies": ["fcfs", {"kind": "plas", "beta": 4.0}],
            "balancers": ["round-robin", "least-loaded"],
            "loads": [0.5, 1],
            "seeds": 3,
            "engines": [1, 2],
            "engine": [{"slots": 4}, {"slots": 8}],
            "programs": 10,
        }
    )
    assert len({point.key for point in sweep.points}) == 2 * 2 * 2 * 2 * 3 * 2 * 2
    assert sweep.baseline == "fcfs"
    assert {point.setup.options["slots"] for point in sweep.points} == {4, 8}
    assert {point.load for point in sweep.points} == {0.5, 1.0}


def test_seeds_come_one_after_the_other() -> None:
    """So that what an interrupt leaves can be compared."""
    sweep = sweep_from({**TABLE, "seeds": 3, "programs": 10})
    assert [point.seed for point in sweep.points] == [0, 0, 1, 1, 2, 2]


def test_arrivals_at_once_have_no_loads() -> None:
    """They are one point, not one a load."""
    table = {**TABLE, "loads": [], "arrivals": "at-once", "programs": 10}
    points = sweep_from(table).points
    assert [(point.arrivals, point.load) for point in points] == [
        (Arrival.AT_ONCE, None)
    ] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"policies": ["plsa"]}, "policies[0]: unknown policy 'plsa'; did you mean"),
        ({"policies": []}, "policies: must be a list of one or more: []"),
        ({"policies": "fcfs"}, "policies: must be a list of one or more: 'fcfs'"),
        ({"policies": [{"kind": "plas", "bata": 1.0}]}, "did you mean 'beta'?"),
        ({"balancers": ["x"]}, "balancers[0]: unknown balancer 'x'"),
        ({"workloads": ["chatt"]}, "workloads[0]: unknown workload 'chatt'; did you"),
        ({"workloads": [{"source": "chat", "gap": "x"}]}, "did you mean 'gaps'?"),
        ({"workloads": [{"mix": ["chatt"]}]}, "unknown workload 'chatt'; did you"),
        ({"workloads": [{"mix": "chat"}]}, "must be a list: 'chat'"),
        ({"workloads": [{"mix": []}]}, "mix: must be a list of one or more: []"),
        ({"workloads": [{"mix": ["chat"], "source": "x"}]}, "source = 'x' means"),
        (
            {"workloads": [{"mix": [{"source": "chat", "share": 0.0}]}]},
            "share must be a factor above 0: 0.0",
        ),
        ({"engine": {"slost": 4}}, "did you mean 'slots'?"),
        ({"engine": {"costs": "llama"}}, "no preset 'llama'"),
        ({"engine": {"backend": "simulatd"}}, "did you mean 'simulated'?"),
        ({"loads": [0.0]}, "load must be above 0"),
        ({"loads": [-1.0]}, "load must be above 0"),
        ({"loads": []}, "loads are needed"),
        ({"loads": [1.0], "arrivals": "at-once"}, "loads mean nothing"),
        ({"arrivals": "fish"}, "arrivals must be one of poisson"),
        ({"seeds": 0}, "'seeds' must be >= 1: 0"),
        ({"engines": [0]}, "'engines' must be >= 1: 0"),
        ({"programs": 0}, "programs must be a whole number from 1 on: 0"),
        ({"progams": 5}, "did you mean 'programs'?"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(
    changes: dict[str, Any], said: str
) -> None:
    """And with the nearest known name."""
    assert said in refused(**changes)


def test_all_faults_are_told_together() -> None:
    """Who mends a table wants to hear of everything."""
    said = refused(policies=["plsa"], balancers=["x"], workloads=["chatt"])
    assert said.count("unknown") == 3


def test_a_file_holds_sweeps(tmp_path: Path) -> None:
    """Faults have the place in the file."""
    path = tmp_path / "bench.toml"
    path.write_text(
        '[[sweeps]]\nname = "a"\nworkloads = ["chat"]\npolicies = ["fcfs"]\n'
        "loads = [1.0]\nprograms = 5\n"
        '[[sweeps]]\nworkloads = ["react"]\npolicies = ["plas"]\n'
        'arrivals = "at-once"\nprograms = 5\n'
    )
    assert [sweep.name for sweep in sweeps_in(path)] == ["a", "sweep"]
    path.write_text(path.read_text().replace("react", "reakt"))
    with pytest.raises(ConfigError, match=r"sweeps\[1\].workloads\[0\]: unknown"):
        sweeps_in(path)


def test_a_warm_start_is_part_of_the_point(tmp_path: Path) -> None:
    """Its model stands in the point, whatever becomes of the file."""
    model = SizeModel(classes={"chat": ClassSizes(ended=[Sizes(0.5, 9.0)])})
    save_sizes(tmp_path / "sizes.json", model)
    path = tmp_path / "bench.toml"
    path.write_text(
        '[[sweeps]]\nworkloads = ["chat"]\nloads = [1.0]\nprograms = 5\n'
        'policies = [{ kind = "gittins", model = "sizes.json" }]\n'
    )
    ((point,),) = (sweep.points for sweep in sweeps_in(path))
    (tmp_path / "sizes.json").unlink()
    back = Point.from_json(json.loads(json.dumps(point.to_json())))
    assert policy_from(back.policy, "policy") == Gittins(model=model)
    assert re.fullmatch(r"gittins\(model=[0-9a-f]{6}\)", label(point.policy))
    with pytest.raises(ConfigError, match=r"policies\[0\].*cannot be read"):
        sweeps_in(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold tables"),
        ("[sweeps]\nname = 'a'", "must hold tables"),
        ("[[sweep]]\nname = 'a'", "it holds: sweep"),
        ("[[sweeps]", "is not TOML"),
    ],
)
def test_a_file_of_something_else_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    """With what it should be."""
    path = tmp_path / "bench.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        sweeps_in(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        sweeps_in(tmp_path / "none.toml")


def test_other_backends_say_what_loads_are_against() -> None:
    """A real engine knows its costs only when it has started."""
    said = refused(engine={"backend": "torch", "slots": 2})
    assert "saturation_costs" in said
    table = {"backend": "torch", "saturation_costs": "smollm2-135m-cpu"}
    sweep = sweep_from({**TABLE, "programs": 2, "engine": table})
    (setup, _) = (point.setup for point in sweep.points)
    assert not setup.is_virtual
    assert setup.preset == "smollm2-135m-cpu"
    assert "costs" not in setup.options
