"""A policy that learns, on the torch engine: the same tables as in the simulation."""

from pathlib import Path

from autellix import AutellixRuntime
from autellix.backends.simulated import SimulatedEngine
from autellix.policies import Gittins
from autellix.policies.gittins import IndexTable
from tests.backends.torch.test_engine import make_engine
from tests.backends.torch.tiny import COSTS, prompt


async def learned_on(runtime: AutellixRuntime) -> tuple[int, IndexTable | None]:
    """Run a few programs of two calls; return versions sent and what was learned."""
    async with runtime:
        for number in range(10):
            async with runtime.program("chat") as program:
                for turn in range(2):
                    await program.generate(
                        prompt(2 * number + turn, 9), max_tokens=5, ignore_end=True
                    )
        seen = runtime.statistics()
        (engine,) = seen.engines.values()
        assert engine.counters.ranking_version == seen.ranking_version
        return seen.ranking_version, seen.learned


async def test_torch_and_simulation_learn_the_same(llama_folder: Path) -> None:
    """Work depends on what was done alone, so with equal costs the tables are equal."""
    simulated = SimulatedEngine(costs=COSTS, kv_tokens=1024, block_tokens=4)
    tables = [
        await learned_on(AutellixRuntime(engines=[engine], policy=Gittins()))
        for engine in (make_engine(llama_folder), simulated)
    ]
    assert tables[0] == tables[1]
    assert tables[0][0] > 3
