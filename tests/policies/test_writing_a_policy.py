"""The policy in docs/writing-a-policy.md works as it stands there."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from autellix.core.intake import Intake
from autellix.core.process_table import ProcessTable
from autellix.policies import from_spec, to_spec

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-policy.md"


@pytest.fixture
def policy_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the class of the page's Python block, put into a module of its own."""
    code = PAGE.read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "policy_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("policy_of_the_page").InteractiveFirst


def test_interactive_programs_go_first_then_those_that_had_least(
    policy_class: Any,
) -> None:
    """What the page says it does."""
    policy = policy_class(interactive=("chat", "voice"))
    table = ProcessTable(policy)
    queue = Intake(policy, policy.ranking(1_000_000))
    for program_class, service_s in (("batch", 20), ("batch", 2), ("voice", 99)):
        program = table.open(program_class, now_ns=0)
        table._rows[program].service_ns = service_s * 10**9
        spec = table.submit(program, prompt=[1], max_tokens=1, now_ns=0)
        assert spec.inherited_ns == service_s * 10**9
        queue.add(spec, engines=["a"], bound_engine=None, rebuild_ns=0, now_ns=0)
    taken = [queue.take("a", 0) for _ in range(3)]
    assert [leaving and (leaving.call_id, leaving.level) for leaving in taken] == [
        (2, 0),
        (1, 2),
        (0, 3),
    ]


def test_it_crosses_into_another_process(policy_class: Any) -> None:
    """Its module can be imported, its fields are plain."""
    policy = policy_class(interactive=("voice",))
    assert from_spec(to_spec(policy)) == policy


def test_it_is_about_twenty_lines() -> None:
    """From the decorator to the end."""
    code = PAGE.read_text().split("```python\n")[1].split("```")[0]
    policy = code[code.index("@attrs") :]
    assert len([line for line in policy.splitlines() if line.strip()]) <= 20
