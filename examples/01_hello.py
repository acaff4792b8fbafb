"""Two agents on one engine: the smallest thing there is.

The engine is simulated, so this needs no model and takes a moment. For a real one take
``TorchEngine.from_pretrained("smollm2-135m")`` from ``autellix.backends.torch``.
"""

import anyio

from autellix import AutellixRuntime
from autellix.backends.simulated import SimulatedEngine


async def talk(runtime: AutellixRuntime, topic: str) -> None:
    async with runtime.program("talk") as program:
        messages = [{"role": "user", "content": f"Tell me about {topic}."}]
        reply = await program.chat(messages, max_tokens=24)
        messages.append({"role": "assistant", "content": reply.text})
        messages.append({"role": "user", "content": "Go on."})
        reply = await program.chat(messages, max_tokens=24)
        report = reply.report
        print(
            f"{topic}: {reply.text!r}, {report.output_tokens} tokens in "
            f"{report.service_s:.2f} s, {report.cached_device_tokens} of "
            f"{report.prompt_tokens} prompt tokens from the cache"
        )


async def main() -> None:
    runtime = AutellixRuntime(engines=[SimulatedEngine()])
    async with runtime, anyio.create_task_group() as agents:
        agents.start_soon(talk, runtime, "lighthouses")
        agents.start_soon(talk, runtime, "bees")


if __name__ == "__main__":
    anyio.run(main)
