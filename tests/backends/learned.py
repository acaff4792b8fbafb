"""What a policy that learns has learned of a small load, on whatever engine."""

from autellix import AutellixRuntime
from autellix.backends.protocol import Engine
from autellix.policies import Gittins
from autellix.policies.gittins import IndexTable


async def learned_on(engine: Engine) -> tuple[int, IndexTable]:
    """Run ten programs of two calls; return versions sent and what was learned.

    Each prompt is new, so that nothing is cached. The engine has the last version.
    """
    async with AutellixRuntime(engines=[engine], policy=Gittins()) as runtime:
        for number in range(10):
            async with runtime.program("chat") as program:
                for turn in range(2):
                    start = 10 * (2 * number + turn)
                    prompt = [7 + token for token in range(start, start + 9)]
                    await program.generate(prompt, max_tokens=5, ignore_end=True)
        seen = runtime.statistics()
        counters = seen.engines[engine.name].counters
        assert counters.ranking_version == seen.ranking_version > 3
        assert seen.learned is not None
        return seen.ranking_version, seen.learned
