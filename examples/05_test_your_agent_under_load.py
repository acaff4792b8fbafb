"""How does my agent behave when the engine is busy? Told in a second or two.

Under ``run_virtual`` time jumps to the next thing that happens: sleeping and waiting
cost nothing, and the same run takes the same time twice, to the bit. Scheduling does
cost CPU time, some ten microseconds a token here. So this can be a test.
"""

import anyio

from autellix import AutellixRuntime, Program
from autellix.backends.simulated import SimulatedEngine
from autellix.testing import run_virtual

PATIENCE_S = 20.0


async def my_agent(program: Program) -> str:
    """Give a draft, and an improved answer if there is time for one."""
    draft = await program.generate("Draft an answer.", max_tokens=100)
    with anyio.move_on_after(PATIENCE_S):
        better = await program.generate(f"Improve: {draft.text}", max_tokens=400)
        return better.text
    return draft.text


async def share_improved(others: int) -> float:
    """Run 20 of my agents beside so many others; return how many improved in time."""
    answers: list[str] = []

    async def mine() -> None:
        async with runtime.program("mine") as program:
            answers.append(await my_agent(program))

    async def other(index: int) -> None:
        async with runtime.program("other") as program:
            await program.generate(f"Report {index}.", max_tokens=600)

    runtime = AutellixRuntime(engines=[SimulatedEngine(slots=8)])
    async with runtime, anyio.create_task_group() as tasks:
        for index in range(others):
            tasks.start_soon(other, index)
        for _ in range(20):
            tasks.start_soon(mine)
            await anyio.sleep(1)
    return sum(len(answer) > 100 for answer in answers) / len(answers)


if __name__ == "__main__":
    for others in (0, 25, 60):
        share = run_virtual(share_improved, others)
        print(f"beside {others:2} others: {share:.0%} of answers were improved in time")
