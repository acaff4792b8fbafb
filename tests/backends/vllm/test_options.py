"""Settings of a vLLM engine: said in code, checked before vLLM is even imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autellix.backends.vllm import DriverKind, VllmEngine, VllmOptions, backend
from autellix.backends.vllm.engine_args import ArgumentsRefused, unknown_in
from autellix.core.cost_model import CostModel
from autellix.errors import ConfigError

COSTS = CostModel(step_ns=5, prefill_ns=1, decode_ns=1)

WITHOUT_TORCH = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name in {"torch", "transformers", "vllm"} else find(name, *rest)
)
from autellix.backends.vllm import VllmEngine
print(VllmEngine(model="tiny").name, *{"torch", "vllm", "cattrs"} & sys.modules.keys())
"""


def test_an_engine_is_made_of_a_model_and_settings(tmp_path: Path) -> None:
    """By name, by folder, and from options, as a configuration file does."""
    assert VllmEngine().model == "smollm2-135m"
    assert VllmEngine(model="a/b", slots=4).options == VllmOptions(model="a/b", slots=4)
    assert VllmEngine(tmp_path, name="c").options.model == str(tmp_path)
    options_class, make = backend
    options = options_class(model="d", driver="async", costs=COSTS)
    assert make(options).options == options
    assert options.driver is DriverKind.ASYNC


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"slots": "8"}, TypeError, "'slots' must be an integer: '8'"),
        ({"slots": True}, TypeError, "'slots' must be an integer: True"),
        ({"slots": 0}, ValueError, "'slots' must be >= 1: 0"),
        (
            {"slots": 9, "token_budget": 8},
            ValueError,
            "token_budget 8 is below slots 9",
        ),
        ({"kv_mib": 0.5}, TypeError, "'kv_mib' must be an integer: 0.5"),
        ({"model": 3}, TypeError, "'model' must be a string: 3"),
        ({"model": ""}, ValueError, "'model' must not be empty: ''"),
        ({"name": ""}, ValueError, "'name' must not be empty: ''"),
        (
            {"driver": "asyncio"},
            ValueError,
            "'driver' must be one of 'in-process', 'async': 'asyncio'",
        ),
        (
            {"driver": ["async"]},
            ValueError,
            "'driver' must be one of 'in-process', 'async': ['async']",
        ),
        ({"dtype": 16}, TypeError, "'dtype' must be a string: 16"),
        ({"preempts": 1}, TypeError, "'preempts' must be a boolean: 1"),
        ({"cache_dir": 7}, TypeError, "'cache_dir' must be a path: 7"),
        ({"costs": "free"}, TypeError, "'costs' must be a CostModel: 'free'"),
        (
            {"engine_args": ["seed"]},
            TypeError,
            "'engine_args' must be a mapping: ['seed']",
        ),
        (
            {"engine_args": {1: 2, "seed": 1, None: "x"}},
            TypeError,
            (
                "'engine_args' must have strings as names: 1, with value 2; "
                "None, with value 'x'"
            ),
        ),
        (
            {"engine_args": {"max_num_seqs": 4, "seed": 1, "block_size": 16}},
            ValueError,
            (
                "'engine_args' must not have 'max_num_seqs', with value 4: set slots; "
                "'block_size', with value 16: set block_tokens"
            ),
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(
    settings: dict[str, Any], error: type[Exception], said: str
) -> None:
    """At construction, in one line."""
    with pytest.raises(error) as caught:
        VllmEngine(**settings)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"slotz": 8},
            "unknown setting 'slotz', with value 8; did you mean 'slots'?",
        ),
        (
            {"max_num_seqs": 4, "slotz": 8},
            (
                "unknown setting 'max_num_seqs', with value 4: set slots; "
                "unknown setting 'slotz', with value 8; did you mean 'slots'?"
            ),
        ),
        (
            {"gpu_memory_utilization": 0.5},
            (
                "unknown setting 'gpu_memory_utilization', with value 0.5; "
                "vLLM's own arguments go into engine_args"
            ),
        ),
    ],
    ids=["typo", "vLLM's word for ours", "vLLM's own"],
)
def test_an_unknown_setting_is_told_with_the_nearest(
    settings: dict[str, Any], said: str
) -> None:
    """All of them at once, each with its value."""
    with pytest.raises(TypeError) as caught:
        VllmEngine(**settings)
    assert str(caught.value) == said


def test_arguments_unknown_to_vllm_are_told_with_the_nearest() -> None:
    """All of them at once, each with its path and its value."""
    known = {"gpu_memory_utilization", "seed", "enforce_eager"}
    given = {"gpu_memory_utilisation": 0.5, "seed": 3, "zzz": [1]}
    error = ArgumentsRefused(list(unknown_in(given, known)))
    assert str(error) == (
        "engine_args.gpu_memory_utilisation: vLLM has no such argument, with value 0.5;"
        " did you mean 'gpu_memory_utilization'?"
    )
    (note,) = error.__notes__
    assert note == ("also: engine_args.zzz: vLLM has no such argument, with value [1]")
    assert isinstance(error, ConfigError)
    assert isinstance(error, ValueError)


def test_the_backend_is_there_without_torch_and_vllm() -> None:
    """Else a file that names it could not be read, and the wrong extra be named."""
    command = [sys.executable, "-c", WITHOUT_TORCH]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "tiny\n", done.stderr
