"""The torch engine keeps the contract of engines, on a tiny random Llama."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from autellix.backends.torch import TorchEngine
from autellix.testing.contract import EngineContract
from tests.backends.torch.tiny import COSTS

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine


class TestTorchEngine(EngineContract):
    """In real time, on both loops."""

    slots = 4
    kv_tokens = 1024
    host_tokens = 1024
    caches_prefixes = True

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture(autouse=True)
    def _use_tiny_model(self, llama_folder: Path) -> None:
        self.folder = llama_folder

    def make_engine(self) -> Engine:
        return TorchEngine.from_pretrained(
            self.folder,
            dtype="float32",
            slots=self.slots,
            token_budget=16,
            kv_tokens=self.kv_tokens,
            host_tokens=self.host_tokens,
            block_tokens=4,
            threads=1,
            caches_prefixes=self.caches_prefixes,
            costs=COSTS,
        )

    def kill(self, engine: Engine) -> None:
        assert isinstance(engine, TorchEngine)

        def fail(*_: object) -> None:
            raise OSError("the machine is on fire")

        assert engine._loaded is not None
        engine._loaded.runner.step = fail  # type: ignore[method-assign, assignment]


class TestTorchEngineWithoutCacheAndHost(TestTorchEngine):
    """The smallest engine: no prefix cache, no host pool, hardly memory."""

    slots = 2
    kv_tokens = 160
    host_tokens = 0
    caches_prefixes = False
