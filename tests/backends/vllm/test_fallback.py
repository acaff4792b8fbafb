"""Where vLLM's scheduler cannot be steered, its public ``priority`` is used."""

from __future__ import annotations

import pytest

from autellix.backends.vllm import VllmEngine, scheduler, surface
from autellix.backends.vllm.remote import WHY_NOT
from autellix.core.facts import Scheduled
from autellix.policies import PLAS, Ladder
from autellix.testing.engine_bench import serving
from tests.backends.vllm.runs import Wanted, call_of, scheduler_of, tiny_engine
from tests.backends.vllm.test_contract import TestVllmEngine as SteeredContract


@pytest.fixture(autouse=True)
def _strange_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let our half need something that no vLLM has."""
    needed = (*surface.REQUIRED, "no_such_method")
    monkeypatch.setattr(scheduler, "REQUIRED", needed)


class TestUnsteeredEngine(SteeredContract):
    """Keeps the contract, and does not say that it preempts."""

    async def test_it_says_so_once_and_in_its_capabilities(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One clear line at the start; results tell that nobody is preempted."""
        async with serving(self.make_engine()) as bench:
            assert not bench.engine.capabilities().preempts
            assert isinstance(bench.engine, VllmEngine)
            reason = getattr(scheduler_of(bench.engine), WHY_NOT)
            assert "no_such_method" in reason
        said = [r.message for r in caplog.records if "no_such_method" in r.message]
        assert len(said) == 1

    async def test_better_calls_go_first_by_level_at_submission(self) -> None:
        """Of calls that wait together, those that inherited less come in first."""
        ladder = Ladder(bounds_s=[1.0], quanta_s=[1.0, 9.0])
        async with serving(tiny_engine(self.folder, slots=1), PLAS(ladder=ladder)) as b:
            old = [Wanted(tokens=3, inherited_ns=2_000_000_000)] * 3
            calls = [call_of(b, w, n) for n, w in enumerate([*old, Wanted(tokens=3)])]
            await b.answers(calls)
            order = [fact.call_id for fact in b.facts if isinstance(fact, Scheduled)]
        assert order in ([3, 0, 1, 2], [0, 3, 1, 2])
