"""Costs from a file."""

from pathlib import Path

import pytest

from autellix.backends.simulated import SimulatedOptions
from autellix.backends.simulated.preset_file import read_preset
from autellix.core.cost_model import CostModel

GOOD = """
[costs]
step_ns = 5
prefill_ns = 1
decode_ns = 2
nominal_batch = 4

[measured]
by = "somebody"
"""


def test_a_file_of_costs_is_read(tmp_path: Path) -> None:
    """What tells where they come from is not looked at."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    costs = CostModel(step_ns=5, prefill_ns=1, decode_ns=2, nominal_batch=4)
    assert read_preset(path) == costs
    assert SimulatedOptions(costs=str(path)).costs == costs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step_ns = ", "is not TOML"),
        ("", "has no table [costs]"),
        ("costs = 3", "has no table [costs]"),
        (GOOD.replace("step_ns", "stpe_ns"), "costs.stpe_ns: unknown key"),
        (GOOD.replace("decode_ns = 2", ""), "costs.decode_ns: this key is needed"),
        (GOOD.replace("= 5", "= 5.5"), "costs.step_ns must be an integer: 5.5"),
        (GOOD.replace("= 5", "= -5"), "'step_ns' must be >= 0: -5"),
    ],
)
def test_what_tells_no_costs_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """With the file, the key and the value."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.toml") as caught:
        read_preset(path)
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """As such, not as an unknown preset."""
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        SimulatedOptions(costs=str(tmp_path / "x.toml"))


def test_the_folder_of_nobody_is_told() -> None:
    """As what cannot be read, like any other file."""
    with pytest.raises(ValueError, match=r"~nobody-here/x\.toml cannot be read"):
        SimulatedOptions(costs="~nobody-here/x.toml")
