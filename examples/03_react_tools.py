"""Many tool-using agents: think, act, observe; at most three of them at a time.

The simulated model says nothing sensible, so the tool is used with what the task needs;
see ``autellix/cli/demo/agents.py`` for one that reads its action from the reply.
"""

import anyio

from autellix import AutellixRuntime
from autellix.backends.simulated import SimulatedEngine

PRICES = {"apples": 2.4, "honey": 6.5, "rice": 1.9}


async def look_up(good: str) -> float:
    await anyio.sleep(0.01)  # a data base, a web page, …
    return PRICES[good]


async def main() -> None:
    async def errand(goods: tuple[str, ...]) -> float:
        messages = [{"role": "user", "content": f"What do {', '.join(goods)} cost?"}]
        total = 0.0
        for good in goods:
            thought = await runtime.chat(messages, max_tokens=12)
            price = await look_up(good)
            total += price
            messages.append({"role": "assistant", "content": thought.text})
            messages.append({"role": "user", "content": f"Observation: {good} {price}"})
        await runtime.chat(messages, max_tokens=12)
        return total

    runtime = AutellixRuntime(engines=[SimulatedEngine()])
    errands = [("apples",), ("honey", "rice"), ("rice", "gold"), ("apples", "honey")]
    async with runtime, runtime.map(errand, errands, limit=3) as outcomes:
        async for outcome in outcomes:  # as they end; a failure stops no other
            said = outcome.error or outcome.value
            print(f"{', '.join(outcome.input)}: {said!r}")


if __name__ == "__main__":
    anyio.run(main)
