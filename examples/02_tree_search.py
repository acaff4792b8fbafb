"""A program that fans out: branches are tasks, and all belong to one program.

Who asks is known from the context, in child tasks too: calls made from the runtime
belong to the current program, so helpers need not be handed anything else.
"""

from collections.abc import Sequence

import anyio

from autellix import AutellixRuntime, CallResult
from autellix.backends.simulated import SimulatedEngine

WIDTH, DEPTH = 4, 3


async def widen(
    runtime: AutellixRuntime, idea: str, after: Sequence[CallResult]
) -> list[CallResult]:
    """Ask for several continuations at once; ``after`` tells ATLAS what they follow."""
    found: list[CallResult] = []

    async def ask(branch: int) -> None:
        prompt = f"{idea} Way {branch}:"
        found.append(await runtime.generate(prompt, max_tokens=16, after=after))

    async with anyio.create_task_group() as branches:
        for branch in range(WIDTH):
            branches.start_soon(ask, branch)
    return found


async def search(runtime: AutellixRuntime, goal: str) -> str:
    idea = goal
    after: list[CallResult] = []
    for _ in range(DEPTH):
        results = await widen(runtime, idea, after)
        best = max(results, key=lambda result: len(set(result.text)))
        idea, after = f"{idea} {best.text}", [best]
    return idea


async def main() -> None:
    async with AutellixRuntime(engines=[SimulatedEngine()]) as runtime:
        print(await runtime.run(search, runtime, "Plan a picnic."))
        seen = runtime.statistics()
        print(f"{seen.calls.finished} calls in {seen.programs_ended} program")


if __name__ == "__main__":
    anyio.run(main)
