"""Every engine of ours keeps the contract; a new one adds a class here."""

from typing import Any

import pytest
import trio.testing

from autellix.backends.protocol import Engine
from autellix.backends.simulated import SimulatedEngine
from autellix.testing import VirtualTimeLoop
from autellix.testing.contract import EngineContract


class TestSimulatedEngine(EngineContract):
    """In virtual time, on both loops."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> tuple[str, Any]:
        if request.param == "asyncio":
            return "asyncio", {"loop_factory": VirtualTimeLoop}
        clock = trio.testing.MockClock(autojump_threshold=0)
        return "trio", {"clock": clock}

    def make_engine(self) -> Engine:
        return SimulatedEngine(slots=4, kv_tokens=4096)

    def kill(self, engine: Engine) -> None:
        assert isinstance(engine, SimulatedEngine)
        engine.crash(OSError("the machine is on fire"))


class TestSimulatedEngineWithoutCacheAndHost(TestSimulatedEngine):
    """The smallest engine: no prefix cache, no host pool, no windows, hardly memory."""

    def make_engine(self) -> Engine:
        return SimulatedEngine(
            slots=2,
            token_budget=8,
            kv_tokens=160,
            host_tokens=0,
            caches_prefixes=False,
            takes_windows=False,
        )


class TestFreeSimulatedEngine(TestSimulatedEngine):
    """Steps take no time at all, as in measurements of overhead."""

    def make_engine(self) -> Engine:
        return SimulatedEngine(costs="free", slots=4)


class TestSimulatedEngineInRounds(TestSimulatedEngine):
    """A decision holds for several steps."""

    def make_engine(self) -> Engine:
        return SimulatedEngine(slots=4, kv_tokens=1024, round_steps=4)
