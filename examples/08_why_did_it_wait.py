"""Why did my agent wait? Every wait has a reason, and every step of a call an event."""

import anyio

from autellix import AutellixRuntime, Event
from autellix.backends.simulated import SimulatedEngine
from autellix.policies import PLAS, Ladder
from autellix.runtime import EventKind
from autellix.testing import run_virtual

TOLD = {EventKind.SCHEDULED, EventKind.PREEMPTED, EventKind.RESUMED, EventKind.ENDED}


def tell(event: Event) -> None:
    """Listeners are called as things happen; without any, events cost nothing."""
    if event.kind in TOLD:
        name = f"{event.program_class} {event.program}"
        print(f"{event.at_s:7.3f} s  {name:8} {event.kind} {event.details}")


async def one(runtime: AutellixRuntime, name: str, tokens: int) -> None:
    async with runtime.program(name) as program:
        result = await program.generate(f"A {name} one.", max_tokens=tokens)
    report = result.report
    waits = {reason.value: round(wait_s, 3) for reason, wait_s in report.wait_s.items()}
    total_s = report.ended_s - report.submitted_s
    print(f"=> {name}: {total_s:.3f} s = service {report.service_s:.3f} s + {waits}")


async def main() -> None:
    policy = PLAS(ladder=Ladder.geometric(first_s=0.5, ratio=4.0, levels=4))
    engine = SimulatedEngine(slots=1)
    async with AutellixRuntime(engines=[engine], policy=policy) as runtime:
        with runtime.listen(tell):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one, runtime, "long", 200)
                await anyio.sleep(1.0)  # by now it has sunk a level
                tasks.start_soon(one, runtime, "short", 20)
        print("in all:", {k.value: v for k, v in runtime.statistics().wait_s.items()})


if __name__ == "__main__":
    run_virtual(main)
