"""What was learned is seen, sent, saved and loaded."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix import AutellixRuntime
from autellix.errors import SizeModelError
from autellix.policies import PLAS, Gittins
from autellix.policies.gittins import ClassSizes, IndexTable, SizeModel, Sizes
from autellix.runtime import load_sizes, save_sizes
from autellix.runtime.calibration import ENDS_TO_JUDGE
from tests.fakes import FakeEngine

MODEL = SizeModel(
    classes={"chat": ClassSizes(ended=[Sizes(0.5, 3.0), Sizes(2.0, 1.5)])},
    shared=ClassSizes(running=[Sizes(7.0, 0.25)]),
)


async def many(runtime: AutellixRuntime, programs: int, tokens: int) -> None:
    """Run programs of one call each, some at a time."""

    async def agent(_: int) -> None:
        await runtime.generate("hi", max_tokens=tokens)

    async with runtime.map(agent, range(programs), limit=5, name="chat") as outcomes:
        assert [each.error async for each in outcomes] == [None] * programs


async def test_statistics_show_what_the_ranking_rests_on() -> None:
    """By class: its ends, who goes on past which age, and the index by age."""
    async with AutellixRuntime(engines=[FakeEngine()], policy=Gittins()) as runtime:
        assert runtime.statistics().learned == Gittins().ranking(
            FakeEngine().costs.single_step_ns()
        )
        await many(runtime, 40, 3)
        learned = runtime.statistics().learned
    assert learned is not None
    row = learned.rows["chat"]
    assert 20 < row.ends <= 40
    assert len(row.ages_s) == len(row.survival) == len(row.rank_s)


async def test_other_policies_learn_no_sizes() -> None:
    """There is nothing to show."""
    async with AutellixRuntime(engines=[FakeEngine()], policy=PLAS()) as runtime:
        await many(runtime, 4, 3)
        assert runtime.statistics().learned is None


async def test_new_tables_go_to_all_engines_with_rising_versions() -> None:
    """Q4: the first of them soon, while nothing is known yet."""
    engines = [FakeEngine(name=name) for name in ("a", "b")]
    async with AutellixRuntime(engines=engines, policy=Gittins()) as runtime:
        await many(runtime, 8, 3)
        assert runtime.statistics().ranking_version >= 3
    assert engines[0].versions == engines[1].versions == sorted(engines[0].versions)


async def test_a_flat_index_is_no_reason_for_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Q5: where first come, first served is what was learned, one level is right."""
    known = SizeModel(classes={"chat": ClassSizes(ended=[Sizes(1e6, 1e9)])})
    policy = Gittins(model=known)
    async with AutellixRuntime(engines=[FakeEngine()], policy=policy) as runtime:
        await many(runtime, 40, 1)  # from here on it takes more ends to learn anew
        async with runtime.program("chat") as program:
            for _ in range(2 * ENDS_TO_JUDGE):
                await program.generate("hi", max_tokens=1)
    assert not caplog.records


async def test_a_restarted_application_starts_warm(tmp_path: Path) -> None:
    """What one run learned holds from the first call of the next."""
    file = tmp_path / "sizes.json"
    async with AutellixRuntime(engines=[FakeEngine()], policy=Gittins()) as runtime:
        await many(runtime, 40, 3)
        learned = runtime.statistics().learned
        assert learned is not None
        save_sizes(file, learned.model)
    policy = Gittins(model=load_sizes(file))
    async with AutellixRuntime(engines=[FakeEngine()], policy=policy) as runtime:
        warm = runtime.statistics().learned
    assert isinstance(warm, IndexTable)
    assert warm.rows["chat"].row == learned.rows["chat"].row


sizes = st.lists(
    st.builds(Sizes, st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)),
    max_size=5,
    unique_by=lambda each: each.size_s,
).map(lambda some: sorted(some, key=lambda each: each.size_s))
classes = st.builds(ClassSizes, ended=sizes, running=sizes)
models = st.builds(
    SizeModel, classes=st.dictionaries(st.text(), classes, max_size=3), shared=classes
)


@given(model=models)
def test_what_is_loaded_is_what_was_saved(
    model: SizeModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """To the last digit, whatever the names of classes are."""
    file = tmp_path_factory.mktemp("sizes") / "sizes.json"
    save_sizes(file, model)
    assert load_sizes(file) == model
    assert [each.name for each in file.parent.iterdir()] == ["sizes.json"]


def saved(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a file and what is in it."""
    file = tmp_path / "sizes.json"
    save_sizes(file, MODEL)
    value: dict[str, Any] = json.loads(file.read_text())
    return file, value


@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        (["schema"], "autellix-sizes/2", "schema 'autellix-sizes/2' is unknown"),
        (["classes"], [], "classes must be an object"),
        (["classes", "chat", "ended"], None, "class 'chat': ended must be a list"),
        (["classes", "chat", "more"], [], "class 'chat' must be an object of"),
        (["shared", "running", 0], [7.0], r"not a size and a weight: \[7.0\]"),
        (["shared", "running", 0], [7.0, "1"], "not a size and a weight"),
        (["shared", "running", 0], [math.inf, 1.0], "not a size and a weight"),
        (["shared", "running", 0], [10**400, 1.0], "not a size and a weight"),
        (["shared", "running", 0], [True, 1.0], "not a size and a weight"),
        (["shared", "running", 0], [0.0, 1.0], "shared: running: 'size_s' must be > 0"),
        (
            ["shared", "ended"],
            [[3.0, 1.0], [2.0, 1.0]],
            "ended: sizes must rise: 3.0, 2",
        ),
        (["shared"], None, "shared must be an object of ended, running: None"),
    ],
)
def test_a_wrong_file_is_an_error_that_says_where(
    tmp_path: Path, path: list[Any], new: object, said: str
) -> None:
    """Never a silent cold start."""
    file, value = saved(tmp_path)
    inner: Any = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    file.write_text(json.dumps(value))
    with pytest.raises(SizeModelError, match=said) as caught:
        load_sizes(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", '{"schema": "x"}', "\x00\xff"),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_broken_file_is_an_error(tmp_path: Path, text: str) -> None:
    """Cut short, empty, or something else altogether."""
    file = tmp_path / "sizes.json"
    file.write_text(text)
    with pytest.raises(SizeModelError, match=r"sizes\.json"):
        load_sizes(file)


def test_any_beginning_of_a_file_is_an_error(tmp_path: Path) -> None:
    """A file cut short is no smaller model."""
    file, _ = saved(tmp_path)
    text = file.read_text().rstrip()
    for end in range(0, len(text), 7):
        file.write_text(text[:end])
        with pytest.raises(SizeModelError):
            load_sizes(file)


def test_what_cannot_be_written_is_told_by_the_name_that_was_given(
    tmp_path: Path,
) -> None:
    """Not by that of the file that is written first."""
    file = tmp_path / "no such folder" / "sizes.json"
    with pytest.raises(FileNotFoundError) as caught:
        save_sizes(file, MODEL)
    assert caught.value.filename == str(file)


def test_no_file_is_said_by_the_system(tmp_path: Path) -> None:
    """It is for the application to say that a first start is cold."""
    with pytest.raises(FileNotFoundError):
        load_sizes(tmp_path / "none.json")
