"""A policy crosses into another process as a spec (rule Q6)."""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from autellix.core.process_table import ProgramView
from autellix.core.ranking import ChargeSample, InnerOrder, Policy, Ranking
from autellix.core.records import Charge
from autellix.errors import PolicyNotPortable
from autellix.policies import (
    ATLAS,
    FCFS,
    MLFQ,
    PLAS,
    SRPT,
    AgeRow,
    Ladder,
    Table,
    from_spec,
    to_spec,
)


@attrs.frozen(kw_only=True)
class ByTable:
    """A policy of a user's own, with a mapping and nested classes in its fields."""

    table: Table
    inner_order: InnerOrder = InnerOrder.PROGRAM_ARRIVAL
    charge: Charge = Charge.WORK
    beta: float | None = None
    remark: Any = None

    def inherited_ns(self, program: ProgramView, after: Sequence[int] | None) -> int:
        """Inherit the sum."""
        return program.work_ns

    def ranking(self, step_ns: int) -> Ranking:
        """Rank by the table."""
        return self.table

    def recalibrated(self, old: Ranking, seen: ChargeSample) -> Ranking | None:
        """Keep it."""
        return None


TABLE = Table(
    rows={"path": AgeRow(starts_s=(0, 1.5), levels=(1, 0))},
    default=AgeRow(starts_s=(0,), levels=(0,)),
)


@pytest.mark.parametrize(
    "policy",
    [
        FCFS(),
        SRPT(levels=5),
        MLFQ(ladder=Ladder(bounds_s=(), quanta_s=(math.inf,)), beta=None),
        PLAS(charge=Charge.WORK, inner_order=InnerOrder.PROGRAM_ARRIVAL, beta=3),
        ATLAS(ladder=Ladder.geometric(0.1, 3.0, 4)),
        ByTable(table=TABLE, remark=[1, {"a": (2, 3)}]),
    ],
    ids=str,
)
def test_a_policy_comes_back_equal_through_json(policy: Policy) -> None:
    """Nested classes, enums and mappings included; lists come back as tuples."""
    there = from_spec(json.loads(json.dumps(to_spec(policy))))
    if isinstance(policy, ByTable) and policy.remark:
        policy = attrs.evolve(policy, remark=(1, {"a": (2, 3)}))
    assert there == policy


def test_a_spec_is_a_path_and_plain_fields() -> None:
    """Readable by any process that can import the class."""
    assert to_spec(PLAS(ladder=Ladder.geometric(1.0, 2.0, 1), beta=None)) == {
        "path": "autellix.policies.plas:PLAS",
        "fields": {
            "ladder": {
                "path": "autellix.policies.ladder:Ladder",
                "fields": {"bounds_s": [], "quanta_s": [1.0]},
            },
            "charge": {"path": "autellix.core.records:Charge", "member": "SERVICE"},
            "inner_order": {
                "path": "autellix.core.ranking:InnerOrder",
                "member": "LEVEL_ARRIVAL",
            },
            "beta": None,
        },
    }


def test_a_policy_of_a_user_works_in_another_process(tmp_path: Path) -> None:
    """Wherever its module can be imported."""
    (tmp_path / "mine.py").write_text(
        "import attrs\nfrom autellix.policies import PLAS\n\n"
        "@attrs.frozen(kw_only=True)\nclass Mine(PLAS):\n    weight: float = 1.0\n"
    )
    spec = {"path": "mine:Mine", "fields": {"weight": 2.5, "beta": 3.0}}
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import json; from autellix.policies import from_spec, to_spec\n"
        f"policy = from_spec(json.loads({json.dumps(spec)!r}))\n"
        "assert to_spec(policy)['path'] == 'mine:Mine'\n"
        "print(policy.weight, policy.beta, policy.ranking(1_000_000).levels)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2.5", "3.0", "8"]


def test_a_policy_of_main_is_refused_with_that_reason() -> None:
    """There __main__ is another module."""
    here = attrs.make_class("Mine", [], bases=(FCFS,), frozen=True)
    here.__module__ = "__main__"
    with pytest.raises(PolicyNotPortable, match="policy: Mine is defined in __main__"):
        to_spec(here())


def test_a_local_policy_is_refused_with_that_reason() -> None:
    """A class inside a function has no import path."""

    @attrs.frozen
    class Mine(FCFS):
        pass

    with pytest.raises(PolicyNotPortable, match=r"<locals>.Mine is defined inside"):
        to_spec(Mine())


def test_a_class_hidden_by_another_of_its_name_is_refused() -> None:
    """The path would lead to the other one."""
    hidden = attrs.make_class("FCFS", [], bases=(FCFS,), frozen=True)
    hidden.__module__, hidden.__qualname__ = FCFS.__module__, "FCFS"
    with pytest.raises(PolicyNotPortable, match="fcfs:FCFS is not the class it leads"):
        to_spec(hidden())


def test_a_field_that_is_no_plain_value_is_refused_with_its_place() -> None:
    """A function cannot be said in plain values."""
    policy = ByTable(table=TABLE, remark=[1, print])
    with pytest.raises(
        PolicyNotPortable, match=r"policy.remark\[1\]: builtin_function"
    ):
        to_spec(policy)


def test_a_policy_without_declared_fields_is_refused() -> None:
    """Only attrs classes say what they are made of."""
    with pytest.raises(PolicyNotPortable, match="object is neither a plain value nor"):
        to_spec(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path", ["no_such_module:X", "autellix.policies:Nothing", "autellix.policies"]
)
def test_a_path_that_leads_nowhere_is_refused_with_the_cause(path: str) -> None:
    """Module or class may be missing."""
    with pytest.raises(PolicyNotPortable, match="cannot import") as caught:
        from_spec({"path": path, "fields": {}})
    assert caught.value.__cause__ is not None
