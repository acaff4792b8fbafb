"""Engines of a comparison, from the table of one."""

from pathlib import Path

import attrs
import pytest

from autellix.backends.simulated import SMOLLM2_135M_CPU
from autellix.config.faults import Faults
from autellix.errors import ConfigError
from autellix.evaluation.setups import setup_from

SMOLLM2 = "smollm2-135m-cpu"


@pytest.mark.parametrize("backend", ["simulated", "torch"])
def test_costs_of_any_backend_may_be_a_preset(backend: str, tmp_path: Path) -> None:
    """By name or by file: engines decide by them, and loads are multiples of them."""
    path = tmp_path / "mine.toml"
    path.write_text("[costs]\nstep_ns = 5\nprefill_ns = 1\ndecode_ns = 2\n")
    named = setup_from({"backend": backend, "costs": SMOLLM2}, engines=1, path="e")
    filed = setup_from({"backend": backend, "costs": str(path)}, engines=1, path="e")
    assert named.cost_model == SMOLLM2_135M_CPU
    assert named.options["costs"] == attrs.asdict(SMOLLM2_135M_CPU)
    assert (filed.cost_model.step_ns, filed.options["costs"]["step_ns"]) == (5, 5)


def test_an_engine_that_measures_itself_needs_costs_for_loads() -> None:
    """They do not become its own."""
    table = {"backend": "torch", "saturation_costs": SMOLLM2}
    setup = setup_from(table, engines=1, path="e")
    assert setup.cost_model == SMOLLM2_135M_CPU
    assert "costs" not in setup.options
    with pytest.raises(ConfigError, match="need saturation_costs"):
        setup_from({"backend": "torch"}, engines=1, path="e")


@pytest.mark.parametrize("backend", ["simulated", "torch"])
def test_a_file_that_is_not_there_is_told(backend: str) -> None:
    """With its path."""
    table = {"backend": backend, "costs": "nowhere/x.toml"}
    with pytest.raises(Faults) as caught:
        setup_from(table, engines=1, path="e")
    (fault,) = caught.value.faults
    assert fault.path == "e.costs"
    assert "nowhere/x.toml cannot be read" in fault.message
