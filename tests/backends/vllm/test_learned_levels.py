"""A policy that learns, inside vLLM: the same tables as in the simulation."""

from pathlib import Path

from autellix.backends.simulated import SimulatedEngine
from tests.backends.learned import learned_on
from tests.backends.vllm.runs import COSTS, tiny_engine


async def test_vllm_and_simulation_learn_the_same(llama_folder: Path) -> None:
    """Work depends on what was done alone, so with equal costs the tables are equal."""
    simulated = SimulatedEngine(costs=COSTS, kv_tokens=1024, block_tokens=32)
    engine = tiny_engine(llama_folder)
    assert await learned_on(engine) == await learned_on(simulated)
