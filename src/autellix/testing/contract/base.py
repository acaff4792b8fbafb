"""What the parts of the contract suite share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from autellix.testing.engine_bench import until

if TYPE_CHECKING:
    from autellix.backends.protocol import Engine
    from autellix.testing.engine_bench import EngineBench

LONG_TOKENS = 24
"""A call of the suite that is to be interrupted produces so many tokens."""

PROMPTS = (
    "Once upon a time",
    "Once upon a hill there was a house, and in the house",
    "To be or",
    "A list of colours: red, green,",
)


class Contract:
    """How an engine is made and broken."""

    def make_engine(self) -> Engine:
        """Return a fresh engine, not entered."""
        raise NotImplementedError

    def kill(self, engine: Engine) -> None:
        """Make the next step of a serving engine fail; leave it out to skip that."""
        del engine
        pytest.skip("this engine cannot be made to fail")


async def started(bench: EngineBench, calls: int) -> None:
    """Wait until so many calls run."""
    await until(lambda: bench.engine.statistics().running >= calls)


def check_at_rest(engine: Engine) -> None:
    """Fail unless the engine has no call and no block in use."""
    seen = engine.statistics()
    assert seen.running == seen.waiting == seen.paused == seen.swapped == 0
    for tier in (seen.device, seen.host):
        assert tier.referenced == tier.moving == 0
        assert tier.free + tier.cached == tier.total
