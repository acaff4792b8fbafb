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

HEAVY = ("cattrs", "matplotlib", "numpy", "rich", "torch", "transformers", "vllm")

MEASURE = f"""
import anyio, attrs, sys, time
began = time.process_time()
import autellix
spent = time.process_time() - began
print(spent, *[name for name in {HEAVY!r} if name in sys.modules])
"""


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
    """It loads no extra, and takes less than 0.3 s of the processor."""
    spent_s, loaded = min(_measured() for _ in range(3))
    assert not loaded
    assert spent_s < 0.3


def _measured() -> tuple[float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    spent_s, *loaded = done.stdout.split()
    return float(spent_s), loaded
