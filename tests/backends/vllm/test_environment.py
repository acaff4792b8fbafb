"""A vLLM that is only half there is told so, wherever it breaks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from autellix.backends.vllm import VllmOptions, engine_args, environment
from autellix.backends.vllm.environment import Installed
from autellix.backends.vllm.own_process import OwnProcessDriver
from autellix.backends.vllm.shared_process import make_llm
from autellix.backends.vllm.tokens import TokenIdsOnly
from autellix.errors import BackendUnavailable

HERE = Installed(version="9.9", is_cpu=True)
UNUSABLE = "vLLM is installed but cannot be used: .*"


@pytest.fixture(autouse=True)
def _half_a_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let vLLM be found, and its engine not be importable."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: object() if name == "vllm" else found(name, *rest),
    )
    monkeypatch.setattr(environment, "_DEFAULTS", {})
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", None)


def test_vllm_without_its_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what cannot be imported."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailable, match=UNUSABLE + "torch") as caught:
        environment.prepare()
    assert isinstance(caught.value.__cause__, ImportError)


def test_arguments_cannot_be_held_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are they refused."""
    monkeypatch.setattr(engine_args, "prepare", lambda: HERE)
    with pytest.raises(BackendUnavailable, match=UNUSABLE + "arg_utils") as caught:
        engine_args.check_arguments({"seed": 3})
    assert isinstance(caught.value.__cause__, ImportError)


def test_no_driver_can_start_it(tmp_path: Path) -> None:
    """Whatever way it is run."""
    pytest.importorskip("torch")
    options = VllmOptions()
    with pytest.raises(BackendUnavailable, match=UNUSABLE + "arg_utils"):
        make_llm(options, tmp_path, HERE)
    driver = OwnProcessDriver(
        name="mine", options=options, folder=tmp_path, tokenizer=TokenIdsOnly("x")
    )
    with pytest.raises(BackendUnavailable, match=UNUSABLE + "arg_utils"):
        driver._make(HERE)
