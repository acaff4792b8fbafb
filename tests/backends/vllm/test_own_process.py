"""The vLLM engine in a process of its own keeps the contract of every engine.

Each start takes ten seconds and more, so all tests talk to one process; the test that
kills it leaves the next one to start another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import attrs
import pytest

from autellix.backends.protocol import Sampling
from autellix.backends.stream import FinishReason
from autellix.backends.vllm import VllmEngine
from autellix.backends.vllm.own_process import OwnProcessDriver
from autellix.core.records import Outcome
from autellix.errors import CallFailed
from autellix.testing.contract import EngineContract
from autellix.testing.engine_bench import serving
from tests.backends.learned import learned_on
from tests.backends.vllm.runs import tiny_engine

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine

pytestmark = pytest.mark.slow


@attrs.define(eq=False)
class Shared:
    """The process of the moment, which engines find instead of starting their own."""

    llm: Any = None
    dead: Any = None

    def kill(self) -> None:
        """End it as a machine without memory would."""
        for process in self.llm.engine_core.resources.engine_manager.processes:
            process.kill()
        self.dead, self.llm = self.llm, None


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Shared]:
    """Keep one event loop and one process for all tests of this module."""
    kept = Shared()
    yield kept
    for llm in (kept.llm, kept.dead):
        if llm is not None:
            await anyio.to_thread.run_sync(llm.shutdown)


class TestOwnProcess(EngineContract):
    """A tiny Llama in float32; what cannot be kept there is tested as it is."""

    @pytest.fixture(autouse=True)
    def _share(
        self, shared: Shared, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.shared, self.folder = shared, llama_folder
        make = OwnProcessDriver._make

        def made_once(driver: OwnProcessDriver, installed: Any) -> Any:
            if shared.llm is None:
                shared.llm = make(driver, installed)
            return shared.llm

        async def left_open(driver: OwnProcessDriver) -> None:
            del driver.llm.add_request  # of this driver
            driver.llm = None

        monkeypatch.setattr(OwnProcessDriver, "_make", made_once)
        monkeypatch.setattr(OwnProcessDriver, "close", left_open)

    def make_engine(self) -> Engine:
        return tiny_engine(self.folder, driver="async", token_budget=64)

    def kill(self, engine: Engine) -> None:
        assert isinstance(engine, VllmEngine)
        self.shared.kill()

    async def test_seeds_make_sampling_reproducible(self) -> None:
        """On the CPU vLLM would die of a seed there: the call alone is refused."""
        async with serving(self.make_engine()) as bench:
            sampling = Sampling(temperature=1.0, seed=3, ignore_end=True)
            seeded = bench.call(max_tokens=4, sampling=sampling)
            with pytest.raises(CallFailed, match="in-process"):
                await bench.answer(seeded)
            assert bench.report(seeded).outcome is Outcome.FAILED
            assert (await bench.answer(bench.call(max_tokens=2))).token_ids

    async def test_a_stop_string_ends_text_and_call(self) -> None:
        """As everywhere; but steps under way add tokens, which the report counts."""
        async with serving(self.make_engine()) as bench:
            whole = await bench.answer(bench.call(max_tokens=24))
            stop = whole.text[len(whole.text) // 2 :][:3]
            sampling = Sampling(stop=[stop], ignore_end=True)
            call = bench.call(max_tokens=24, sampling=sampling)
            answer = await bench.answer(call)
            assert answer.text == whole.text[: whole.text.index(stop)]
            assert answer.reason is FinishReason.STOP
            assert answer.token_ids == whole.token_ids[: len(answer.token_ids)]
            report = bench.report(call)
            assert report.outcome is Outcome.FINISHED
            assert len(answer.token_ids) <= report.output_tokens <= 24

    async def test_learned_tables_cross_into_the_process(self) -> None:
        """Sent when they are made anew: the scheduler over there tells its version."""
        _, table = await learned_on(self.make_engine())
        assert table.model.classes["chat"].ended

    async def test_a_bad_request_fails_alone(self) -> None:
        """It ends as failed with vLLM's reason, and others are served."""
        async with serving(self.make_engine()) as bench:
            bad = bench.call([5, 6], max_tokens=4, sampling=Sampling(logprobs=500))
            with pytest.raises(CallFailed) as caught:
                await bench.answer(bad)
            assert caught.value.__cause__ is not None
            assert bench.report(bad).outcome is Outcome.FAILED
            assert (await bench.answer(bench.call(max_tokens=2))).token_ids
