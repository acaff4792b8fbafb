"""Engines, policy and balancer from a file; what is wrong in one is said by its key.

The same file serves ``autellix run my_agent.py --config examples/autellix.toml``.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from autellix import AutellixRuntime, ConfigError
from autellix.config import load

FILE = Path(__file__).with_name("autellix.toml")


async def main() -> None:
    async with AutellixRuntime.from_config(FILE) as runtime:
        results = [
            await runtime.generate(f"Say {word}.", max_tokens=8)
            for word in ("yes", "no", "maybe")
        ]
        print("served by", ", ".join(result.report.engine for result in results))


def show_a_typo() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "autellix.toml"
        path.write_text(FILE.read_text().replace("slots", "slost", 1))
        try:
            load(path)
        except ConfigError as error:
            print("refused:", error)


if __name__ == "__main__":
    print(load(FILE).policy)
    anyio.run(main)
    show_a_typo()
