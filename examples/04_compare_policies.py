"""The same agents under several policies, in virtual time.

A load past what the engine can serve, with sizes that vary a lot: most programs make a
few calls, some make dozens. Whether a policy helps depends on the load; try others.
"""

import random
from statistics import mean

import anyio

from autellix import AutellixRuntime
from autellix.backends.simulated import SimulatedEngine
from autellix.core.ranking import Policy
from autellix.policies import ATLAS, FCFS, MLFQ, PLAS, ProgramFCFS
from autellix.testing import run_virtual

PROGRAMS, ARRIVALS_A_SECOND = 300, 4.0


async def agent(runtime: AutellixRuntime, calls: int, latencies_s: list[float]) -> None:
    began_s = anyio.current_time()
    async with runtime.program("agent") as program:
        text = f"Program of {calls} calls. " * 4
        for _ in range(calls):
            text += (await program.generate(text, max_tokens=64)).text
    latencies_s.append(anyio.current_time() - began_s)


async def serve(policy: Policy) -> list[float]:
    chance = random.Random(7)  # the same arrivals and sizes for all
    latencies_s: list[float] = []
    runtime = AutellixRuntime(engines=[SimulatedEngine(slots=8)], policy=policy)
    async with runtime, anyio.create_task_group() as arrivals:
        for _ in range(PROGRAMS):
            calls = min(40, round(chance.paretovariate(1.1)))
            arrivals.start_soon(agent, runtime, calls, latencies_s)
            await anyio.sleep(chance.expovariate(ARRIVALS_A_SECOND))
    return latencies_s


if __name__ == "__main__":
    policies: list[Policy] = [FCFS(), ProgramFCFS(), MLFQ(), PLAS(), ATLAS()]
    for policy in policies:
        latencies_s = sorted(run_virtual(serve, policy))
        p95_s = latencies_s[int(0.95 * PROGRAMS)]
        name = type(policy).__name__
        print(f"{name:12} mean {mean(latencies_s):6.2f} s   P95 {p95_s:6.2f} s")
