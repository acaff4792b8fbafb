"""Points: what they refuse, and when two are the same."""

import json
from typing import Any

import attrs
import pytest

from autellix.evaluation import Arrival, Part, Point, Workload
from autellix.evaluation.point import label
from tests.evaluation.builders import point, setup


@pytest.mark.parametrize("load", [0.0, -1.0, None, float("nan"), float("inf")])
def test_a_load_is_above_zero(load: float | None) -> None:
    """And the message shows the value."""
    with pytest.raises(ValueError, match=f"load must be above 0.*{load}"):
        point(load=load)


@pytest.mark.parametrize("arrivals", [Arrival.AT_ONCE, Arrival.RECORDED])
def test_arrivals_without_a_rate_have_no_load(arrivals: Arrival) -> None:
    """A load that would change nothing is refused."""
    assert point(arrivals=arrivals, load=None).load is None
    with pytest.raises(ValueError, match="have no load"):
        point(arrivals=arrivals, load=1.0)


@pytest.mark.parametrize("programs", [0, -3, 1.5, True])
def test_programs_are_counted_from_one(programs: Any) -> None:
    """Nothing else is a number of programs."""
    with pytest.raises(ValueError, match="whole number"):
        point(programs=programs)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"load": 1.1},
        {"policy": "plas"},
        {"policy": {"kind": "fcfs"}},
        {"balancer": "round-robin"},
        {"programs": 7},
        {"limit": 2},
        {"workload": Workload(source="react")},
        {"workload": Workload(source="chat", gaps="shell")},
        {"workload": Workload(source="chat", program_class="any")},
        {"workload": Workload(source="chat", mix=[Part(source="chat")])},
        {"setup": setup(slots=5)},
        {"setup": setup(engines=2, slots=4)},
        {"setup": setup(slots=4, costs="llama-8b-h100")},
    ],
)
def test_points_that_differ_have_different_keys(changes: dict[str, Any]) -> None:
    """Whatever it is that differs."""
    assert point(**changes).key != point().key


def test_a_point_comes_back_from_json_with_its_key() -> None:
    """The key of a stored point is the one a sweep asks for."""
    there = point(
        workload=Workload(source="m", mix=[Part(source="chat", share=2.0)]),
        policy={"kind": "plas", "beta": 4.0},
        setup=setup(engines=2),
    )
    back = Point.from_json(json.loads(json.dumps(there.to_json())))
    assert back == there
    assert back.key == there.key


def test_a_whole_number_is_a_load() -> None:
    """And the same one, however it is written."""
    assert point(load=1).key == point(load=1.0).key


def test_defaults_of_an_engine_are_part_of_a_point() -> None:
    """Another default tomorrow must not pass for what was run today."""
    assert setup().options["host_tokens"] == 524_288
    assert setup().costs["step_ns"] == 10_700_000
    assert setup(host_tokens=524_288) == setup()
    assert point(setup=setup(host_tokens=0)).key != point(setup=setup()).key


def test_a_trace_is_known_by_its_content_not_its_folder() -> None:
    """Results move to another machine; they do not survive another file."""
    here = Workload(source="/a/some.jsonl.gz", digest="12")
    there = Workload(source="/b/some.jsonl.gz", digest="12")
    changed = attrs.evolve(here, digest="13")
    keys = [point(workload=one).key for one in (here, there, changed)]
    assert keys[0] == keys[1] != keys[2]
    mixes = [
        Workload(source="some", mix=[Part(source=one.source, digest=one.digest)])
        for one in (here, there, changed)
    ]
    keys = [point(workload=one).key for one in mixes]
    assert keys[0] == keys[1] != keys[2]


def test_keys_from_before_there_were_mixes_are_valid() -> None:
    """What is not given is not told."""
    assert not {"mix", "program_class"} & point().to_json()["workload"].keys()


@pytest.mark.parametrize("value", [{}, {"policy": "fcfs"}, {"workload": 3}])
def test_what_is_no_point_is_refused(value: dict[str, Any]) -> None:
    """With one kind of error."""
    with pytest.raises(ValueError, match="no point"):
        Point.from_json(value)


def test_labels_name_the_options() -> None:
    """Tables tell two settings of one policy apart."""
    assert label("plas") == label({"kind": "plas"}) == "plas"
    assert label({"kind": "plas", "beta": 4.0}) == "plas(beta=4.0)"
