"""What ``import autellix`` gives, and what it costs."""

import os
import subprocess
import sys

import pytest

import autellix

NAMES = {
    "AutellixError",
    "AutellixRuntime",
    "BackendUnavailable",
    "CallFailed",
    "CallRejected",
    "CallResult",
    "ConfigError",
    "EngineError",
    "EngineLost",
    "Event",
    "MapOutcome",
    "ModelRefused",
    "PolicyFault",
    "PolicyNotPortable",
    "Program",
    "ProgramClosed",
    "ResultReport",
    "RuntimeClosed",
    "Statistics",
    "UnknownModel",
    "UnknownToken",
    "current_program",
}

HEAVY = {"cattrs", "matplotlib", "numpy", "rich", "torch", "transformers", "vllm"}
LATER = (
    "autellix.cli",
    "autellix.evaluation",
    "autellix.workloads",
    "autellix.backends.simulated",
    "autellix.backends.torch",
    "autellix.backends.vllm",
)
"""Rooms that only those load who ask for them."""


def test_the_public_names_are_these_and_few() -> None:
    """A name more or less is a decision, not an accident."""
    assert set(autellix.__all__) == NAMES
    assert autellix.__all__ == sorted(autellix.__all__)
    assert len(NAMES) <= 22
    assert all(hasattr(autellix, name) for name in NAMES)


def test_all_errors_share_one_base() -> None:
    """``except AutellixError`` catches whatever this library raises for its callers."""
    errors = [
        value
        for value in (getattr(autellix, name) for name in NAMES)
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(errors) == 14
    assert all(issubclass(error, autellix.AutellixError) for error in errors)


@pytest.mark.slow
def test_import_is_light() -> None:
    """It loads no extra, no engine, and nothing of the evaluation or command line."""
    done = subprocess.run(
        [sys.executable, "-c", "import autellix, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    loaded = set(done.stdout.split())
    assert "autellix.runtime" in loaded
    assert not HEAVY & loaded
    assert not [name for name in loaded if name.startswith(LATER)]
