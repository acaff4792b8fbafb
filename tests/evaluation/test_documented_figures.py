"""A table of the documentation, made again by the command that stands above it."""

import re
import shlex
from itertools import chain
from pathlib import Path

import pytest

from autellix.cli import ExitCode, main

DOCUMENT = Path(__file__).parents[2] / "docs" / "evaluation.md"
HEADING = "## A figure that a test makes again"


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of the first table with latencies, by policy."""
    lines = chain(text.splitlines(), [""])
    table = []
    for line in lines:
        if "makespan" in line and line.startswith("| load"):
            table = [line]
        elif table and not line.startswith("|"):
            break
        elif table:
            table.append(line)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    return {row[1]: row for row in cells if row[0] == "2"}


@pytest.mark.slow
def test_the_documented_table_is_what_its_command_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within 3 %: who changes what decides has to run the command again."""
    section = DOCUMENT.read_text(encoding="utf-8").split(HEADING)[1]
    found = re.search(r"`autellix (bench [^`]+)`", section)
    assert found
    command = shlex.split(found[1])
    assert main([*command, "--out", str(tmp_path / "out")]) == ExitCode.OK
    documented, made = rows(section), rows(capsys.readouterr().out)
    assert list(documented) == list(made) == ["fcfs", "plas"]
    for policy, row in documented.items():
        for there, here in zip(row[2:], made[policy][2:], strict=True):
            assert bool(there) == bool(here)
            if there:
                assert float(here) == pytest.approx(float(there), rel=0.03)
