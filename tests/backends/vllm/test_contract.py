"""The vLLM engine keeps the contract of every engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autellix.backends.vllm import VllmEngine
from autellix.backends.vllm.in_process import InProcessDriver
from autellix.testing.contract import EngineContract

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine


class TestVllmEngine(EngineContract):
    """A tiny Llama in process, in real time; float32, so a batch changes no token."""

    folder: Path

    @pytest.fixture(autouse=True)
    def _find_folder(self, llama_folder: Path) -> None:
        self.folder = llama_folder

    def make_engine(self) -> Engine:
        return VllmEngine(
            self.folder, dtype="float32", slots=3, kv_mib=8, token_budget=64
        )

    def kill(self, engine: Engine) -> None:
        assert isinstance(engine, VllmEngine)
        driver = engine._here.driver
        assert isinstance(driver, InProcessDriver)

        def fail(*_: Any, **__: Any) -> None:
            raise OSError("the machine is on fire")

        driver._core.model_executor.execute_model = fail


class TestSmallVllmEngine(TestVllmEngine):
    """On trio, without prefix cache, with hardly any memory."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"

    def make_engine(self) -> Engine:
        return VllmEngine(
            self.folder,
            dtype="float32",
            slots=2,
            kv_mib=8,
            token_budget=16,
            caches_prefixes=False,
            max_context_tokens=192,
            engine_args={"num_gpu_blocks_override": 8},
        )
