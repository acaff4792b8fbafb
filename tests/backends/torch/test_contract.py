"""The torch engine keeps the contract of every engine."""

from pathlib import Path

import pytest

from autellix.backends.protocol import Engine
from autellix.backends.torch import TorchEngine
from autellix.testing.contract import EngineContract
from tests.backends.torch.tiny import COSTS


class TestTorchEngine(EngineContract):
    """A tiny Llama in real time; float32, so that a batch does not change tokens."""

    folder: Path

    @pytest.fixture(autouse=True)
    def _find_folder(self, llama_folder: Path) -> None:
        self.folder = llama_folder

    def make_engine(self) -> Engine:
        return TorchEngine.from_pretrained(
            self.folder,
            dtype="float32",
            slots=3,
            token_budget=32,
            kv_tokens=2048,
            host_tokens=2048,
            block_tokens=4,
            threads=1,
            costs=COSTS,
        )

    def kill(self, engine: Engine) -> None:
        assert isinstance(engine, TorchEngine)
        assert engine._executor is not None
        engine._executor.close()  # the next step finds no model


class TestSmallTorchEngine(TestTorchEngine):
    """On trio, without prefix cache and host pool, with hardly any memory."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "trio"

    def make_engine(self) -> Engine:
        return TorchEngine.from_pretrained(
            self.folder,
            dtype="float32",
            slots=2,
            token_budget=8,
            kv_tokens=160,
            host_tokens=0,
            block_tokens=4,
            threads=1,
            caches_prefixes=False,
            costs=COSTS,
        )
