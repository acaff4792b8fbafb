"""Pack the results in a folder, so that they can be published with the tables.

    autellix bench --config benchmarks/evaluation.toml --out docs/evaluation
    python -m benchmarks.publish docs/evaluation

What is in ``results.jsonl`` goes into ``results.jsonl.xz``, which ``autellix bench``
reads as well: who has it goes on from there, or draws other tables and pictures of it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from autellix.errors import ConfigError
from autellix.evaluation import Store


def main() -> None:
    """Pack, and say what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="as given to --out")
    path = parser.parse_args().folder / "results.jsonl"
    try:
        store = Store.open(path, to_add=False)
        store.pack()
    except ConfigError as error:
        sys.exit(str(error))
    print(f"{store.packed}: {store.packed.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
