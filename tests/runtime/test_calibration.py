"""Rankings follow what is seen, and an idle ladder is noticed (rules Q4, Q5)."""

import logging

import anyio
import pytest

from autellix import AutellixRuntime
from autellix.policies import FCFS, PLAS, Ladder
from autellix.runtime.calibration import ENDS_TO_JUDGE
from tests.fakes import COSTS, FakeEngine


async def many(runtime: AutellixRuntime, programs: int, tokens: int) -> None:
    """Run programs of one call each, so many at a time that they end in turns."""

    async def agent(_: int) -> None:
        await runtime.generate("hi", max_tokens=tokens)

    async with runtime.map(agent, range(programs), limit=20) as outcomes:
        assert [each.error async for each in outcomes] == [None] * programs


async def test_new_rankings_are_sent_to_all_engines_with_rising_versions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Q4: what is seen differs from the default, so every engine gets what fits it."""
    engines = [FakeEngine(name=name, step_s=5.0) for name in ("a", "b")]
    async with AutellixRuntime(engines=engines, policy=PLAS()) as runtime:
        await many(runtime, ENDS_TO_JUDGE, 3)
        calibration = runtime._calibration
        assert calibration is not None
        ranking = calibration.ranking
        assert isinstance(ranking, Ladder)
        # All calls take 15 s, so the first bound, a low quantile, lies there too.
        assert ranking.bounds_ns[0] == pytest.approx(15e9, rel=0.1)
        assert runtime.statistics().ranking_version == len(engines[0].versions) > 0
    assert engines[0].versions == engines[1].versions == sorted(engines[0].versions)
    assert not caplog.records  # Q5 judges a ranking by what ended under it


async def test_a_fixed_ladder_is_left_alone() -> None:
    """Q4: fixed values can be given."""
    engine = FakeEngine(step_s=5.0)
    policy = PLAS(ladder=Ladder.geometric(1.0, 2.0, 4))
    async with AutellixRuntime(engines=[engine], policy=policy) as runtime:
        await many(runtime, 200, 3)
        assert runtime.statistics().ranking_version == 0
    assert not engine.versions


async def test_a_lost_engine_gets_no_ranking() -> None:
    """Q4: sending goes on to those that are there."""
    engines = [FakeEngine(name=name, step_s=5.0) for name in ("a", "b")]
    async with AutellixRuntime(engines=engines, policy=PLAS()) as runtime:
        engines[0].crash(OSError())
        await anyio.sleep(10.0)
        await many(runtime, 200, 3)
    assert not engines[0].versions
    assert engines[1].versions


async def test_one_warning_when_nearly_all_calls_sit_in_one_level(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Q5: then every policy is FCFS, and whoever chose another wants to know."""
    policy = PLAS(ladder=Ladder.geometric(1e6, 2.0, 4))
    async with AutellixRuntime(engines=[FakeEngine()], policy=policy) as runtime:
        await many(runtime, ENDS_TO_JUDGE - 1, 1)
        assert not caplog.records
        await many(runtime, ENDS_TO_JUDGE, 1)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "100 % of" in caplog.text
    assert "level 0 of 4" in caplog.text


async def test_one_level_is_no_reason_for_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Q5: FCFS has but one."""
    async with AutellixRuntime(engines=[FakeEngine()], policy=FCFS()) as runtime:
        await many(runtime, ENDS_TO_JUDGE, 1)
    assert not caplog.records


async def test_the_slowest_engine_gives_the_first_ranking() -> None:
    """Ages are counted over all engines, so there is one ranking for all."""
    slow = FakeEngine(name="slow")
    slow.costs = COSTS.__class__(step_ns=10**9, prefill_ns=0, decode_ns=0)
    async with AutellixRuntime(
        engines=[FakeEngine(name="quick"), slow], policy=PLAS()
    ) as runtime:
        assert runtime._calibration is not None
        ranking = runtime._calibration.ranking
    assert isinstance(ranking, Ladder)
    assert ranking.bounds_ns[0] >= 10**9
