"""What the page about workloads shows, works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "workloads.md"


@pytest.mark.slow
def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    """As it stands there."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 3
    assert (tmp_path / "mine.jsonl.gz").stat().st_size > 1_000
