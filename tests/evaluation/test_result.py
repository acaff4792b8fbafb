"""Results as lines of JSON."""

import json

import attrs
import pytest

from autellix.evaluation import Result
from autellix.evaluation.lessons import Lessons
from autellix.evaluation.point import Point, Workload
from autellix.evaluation.result import codes_of, version_of
from autellix.evaluation.timeline import Timeline
from tests.evaluation.builders import point, result, row
from tests.evaluation.test_lessons import TABLE
from tests.evaluation.test_timeline import TRACKS

ROWS = [row(1.23456789), row(4.0, program_class="search", started_s=2.5)]

COLUMNS = json.loads(result(point(), ROWS).to_line())["programs"]


def test_a_result_comes_back_from_its_line() -> None:
    """Seconds are kept to the microsecond, everything else as it was."""
    there = result(point(), ROWS)
    back = Result.from_line(there.to_line())
    assert back.point == there.point
    assert back.rows == [row(1.234568), ROWS[1]]
    assert back.wait_s == there.wait_s
    assert back.to_line() == there.to_line()


def test_what_pictures_are_made_of_comes_back_and_is_no_outcome() -> None:
    """Results from before there were such pictures have the versions they had."""
    there = result(
        point(), ROWS, timeline=Timeline.of(TRACKS), lessons=Lessons.of(TABLE)
    )
    back = Result.from_line(there.to_line())
    assert (back.timeline, back.lessons) == (there.timeline, there.lessons)
    assert back.outcome() == result(point(), ROWS).outcome()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "autellix-result/1"}, "schema 'autellix-result/1' is unknown"),
        ({"programs": {"classes": ["chat"], "program_class": [7]}}, "no result"),
        ({"programs": {**COLUMNS, "program_class": [7, 0]}}, "no result"),
        ({"programs": {**COLUMNS, "program_class": [-1, 0]}}, "no result"),
        ({"programs": {**COLUMNS, "calls": [1]}}, "no result|argument"),
        ({"programs": {**COLUMNS, "unheard_of": [1, 2]}}, "no result"),
        ({"point": 3}, "no result|no point"),
        ({"extra": 1}, "no result"),
        ({"timeline": {}}, "no result"),
        ({"lessons": {"model": 3}}, "schema None is unknown"),
        ({"key": "of another"}, "key 'of another' is of another point"),
    ],
)
def test_a_line_that_tells_no_result_is_refused(
    change: dict[str, object], said: str
) -> None:
    """Whatever is wrong with it is one kind of error."""
    value = json.loads(result(point(), ROWS).to_line())
    with pytest.raises(ValueError, match=said):
        Result.from_line(json.dumps({**value, **change}))


@pytest.mark.parametrize("line", ["", "nonsense", "[]", "3", "{}"])
def test_nonsense_is_refused(line: str) -> None:
    """Not every line of JSON is an object."""
    with pytest.raises(ValueError, match=r".+"):
        Result.from_line(line)


def test_the_version_of_results_is_theirs_alone() -> None:
    """Neither their order nor how long they took changes it; an outcome does."""
    one, two = result(point(), ROWS), result(point(seed=1), ROWS)
    slower = result(point(), ROWS, cpu_s=9.0, code="other")
    assert version_of([one, two]) == version_of([two, slower])
    assert version_of([one, two]) != version_of([one])
    assert version_of([one]) != version_of([result(point(), ROWS[:1])])


def test_the_version_of_results_knows_no_folders() -> None:
    """Those of one trace are the same wherever it lies."""
    here, there = (
        Workload(source=f"{folder}/chats.jsonl.gz", digest="0123456789ab")
        for folder in ("/here", "/there")
    )
    one = result(attrs.evolve(point(), workload=here), ROWS)
    other = result(attrs.evolve(point(), workload=there), ROWS)
    assert version_of([one]) == version_of([other])


def test_results_are_of_one_code_whatever_each_policy_adds() -> None:
    """A policy's own code is held against that of its other runs alone."""
    plain, learned = (
        result(point(policy="fcfs"), ROWS),
        result(point(policy="gittins"), ROWS, policy_code="aaa"),
    )
    assert codes_of([plain, learned]) == ("`aaa` (gittins), `c0de` (simulated)", True)
    newer = result(point(policy="gittins", seed=1), ROWS, policy_code="bbb")
    assert not codes_of([plain, learned, newer])[1]
    assert not codes_of([plain, result(point(seed=1), ROWS, code="other")])[1]


def test_points_from_before_retention_are_of_engines_that_retain_nothing() -> None:
    """They have no such option; one that retains comes back as it was."""
    there = point().to_json()
    assert there["setup"]["options"]["retains_prefixes"] is True
    assert Point.from_json(there).to_json() == there
    del there["setup"]["options"]["retains_prefixes"]
    old = Point.from_json(there)
    assert old.setup.options["retains_prefixes"] is False
    assert old.to_json() == there
