"""Tiny models in vLLM, made once a session; skipped where vLLM is not installed."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from autellix.backends.vllm.environment import prepare

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

IS_INSTALLED = importlib.util.find_spec("vllm") is not None

NEEDS_VLLM = {
    "test_own_process",
    "test_bad_input",
    "test_command_line",
    "test_contract",
    "test_fallback",
    "test_learned_levels",
    "test_program_totals",
    "test_recorded_runs",
    "test_server",
    "test_smollm2",
}
"""Modules that run vLLM itself; the others test what is ours alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs vLLM where it is not, and let vLLM warn as it likes."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent != here or item.path.stem not in NEEDS_VLLM:
            continue
        item.add_marker(pytest.mark.filterwarnings("default"))
        if not IS_INSTALLED:
            reason = "vLLM is not installed: nox -s vllm"
            item.add_marker(pytest.mark.skip(reason=reason))


collect = gc.collect


@pytest.fixture(scope="module", autouse=True)
def _own_garbage(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what vLLM left before the next module, where warnings are errors.

    Clients of its processes leave contexts of zmq unclosed, which warn when they go.
    """
    yield
    if IS_INSTALLED and request.path.stem in NEEDS_VLLM:
        collect()


@pytest.fixture(autouse=True)
def _no_forced_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let garbage be collected when Python likes, not seven times an engine.

    vLLM asks for that at every start and end, and each time all that vLLM and torch
    have imported is walked: seven eighths of what a tiny engine costs.
    """
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda *_: 0)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny random Llama with a tokenizer."""
    prepare()
    from tests.backends.torch.tiny import make_folder  # noqa: PLC0415 - not before

    place = tmp_path_factory.mktemp("llama")
    return make_folder(place, head_dim=32, max_position_embeddings=1024)


@pytest.fixture(scope="session")
def dummy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds a configuration only: no weights, no tokenizer."""
    folder = tmp_path_factory.mktemp("dummy")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 1024,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 2048,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
