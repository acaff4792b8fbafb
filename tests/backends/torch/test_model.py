"""Loading a model folder: what is not right is refused, with what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from autellix.backends.torch.model import load, preferred_dtype
from autellix.errors import ModelRefused
from tests.backends.torch.tiny import load_tiny, make_folder, tiny_config


@pytest.fixture
def copy(llama_folder: Path, tmp_path: Path) -> Path:
    """Return a folder that may be broken."""
    return Path(shutil.copytree(llama_folder, tmp_path / "model"))


def change_settings(folder: Path, **settings: object) -> None:
    """Change ``config.json``."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def refused(folder: Path) -> ModelRefused:
    """Return the error that loading a folder gives."""
    with pytest.raises(ModelRefused) as caught:
        load_tiny(folder)
    assert str(folder) in str(caught.value)
    return caught.value


def test_a_loaded_model_knows_its_shape(llama_folder: Path) -> None:
    """What the engine needs to take memory."""
    model = load_tiny(llama_folder)
    shape = model.kv_shape(16)
    assert (shape.layers, shape.kv_heads, shape.head_dim) == (2, 2, 16)
    assert shape.dtype is torch.float32
    assert model.max_context_tokens == 512
    assert not model.network.training


def test_loading_leaves_the_process_as_it_was(llama_folder: Path) -> None:
    """No default dtype, no progress bar setting of somebody else is changed."""
    bars: Any = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    load(llama_folder, dtype=torch.bfloat16, progress=lambda _doing, _share: None)
    assert torch.get_default_dtype() is torch.float32
    assert bars.is_progress_bar_enabled() == shown


def test_loading_says_what_it_does_and_prints_nothing(
    llama_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Progress goes to the callback, not to the terminal."""
    said = []
    load(llama_folder, dtype=None, progress=lambda doing, _share: said.append(doing))
    dtype = str(preferred_dtype()).removeprefix("torch.")
    assert said == [f"loading {llama_folder.name} as {dtype}"]
    assert capfd.readouterr() == ("", "")


def test_the_fingerprint_changes_with_weights_and_dtype(copy: Path) -> None:
    """KV of other weights or another dtype is not interchangeable (rule K2)."""

    def fingerprint(dtype: torch.dtype) -> str:
        return load(copy, dtype=dtype, progress=lambda _doing, _share: None).fingerprint

    first = fingerprint(torch.float32)
    assert fingerprint(torch.float32) == first
    assert fingerprint(torch.bfloat16) != first
    weights = copy / "model.safetensors"
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data)
    assert fingerprint(torch.float32) != first


def test_a_folder_without_settings_is_refused(copy: Path) -> None:
    """There is no model in it."""
    (copy / "config.json").unlink()
    error = refused(copy)
    assert "config.json cannot be read" in str(error)
    assert isinstance(error.__cause__, FileNotFoundError)


def test_settings_that_are_no_json_are_refused(copy: Path) -> None:
    """With the parser's word on it."""
    (copy / "config.json").write_text('{"model_type": "llama"')
    assert isinstance(refused(copy).__cause__, json.JSONDecodeError)


@pytest.mark.parametrize("model_type", ["gemma3", "mamba", None, 7])
def test_an_unknown_architecture_is_refused_by_name(
    model_type: object, copy: Path
) -> None:
    """Nothing of it is imported or run."""
    change_settings(copy, model_type=model_type)
    message = str(refused(copy))
    assert f"architecture {model_type!r} is not supported" in message
    assert "qwen3" in message


def test_settings_that_make_no_sense_are_refused(copy: Path) -> None:
    """What transformers says about them is the cause."""
    change_settings(copy, num_attention_heads=3)
    assert refused(copy).__cause__ is not None


def test_truncated_weights_are_refused(copy: Path) -> None:
    """A download that was cut."""
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert refused(copy).__cause__ is not None


def test_of_all_that_is_wrong_the_weights_come_first(copy: Path) -> None:
    """In a line: a library's advice on tokenizers mends no file that is garbage."""
    (copy / "model.safetensors").write_bytes(b"garbage")
    (copy / "tokenizer.json").unlink()
    message = str(refused(copy))
    assert "the network with its weights cannot be loaded: " in message
    assert "\n" not in message


def test_weights_that_are_not_there_are_refused(copy: Path) -> None:
    """Neither as safetensors nor in a format that could run code."""
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert refused(copy).__cause__ is not None


def test_a_weight_that_is_missing_is_refused(copy: Path) -> None:
    """transformers would fill it with random numbers."""
    change_settings(copy, num_hidden_layers=3)
    assert "9 weights are missing: model.layers.2." in str(refused(copy))


def test_a_weight_of_another_shape_is_refused(copy: Path) -> None:
    """The settings are of another model."""
    change_settings(copy, intermediate_size=128)
    assert refused(copy).__cause__ is not None


def test_a_missing_tokenizer_is_refused(copy: Path) -> None:
    """A model without one cannot be talked to."""
    (copy / "tokenizer.json").unlink()
    error = refused(copy)
    assert "its tokenizer cannot be loaded: " in str(error)
    assert error.__cause__ is not None


def test_quantised_weights_are_refused(copy: Path) -> None:
    """Their modules are others than those that were tested."""
    change_settings(copy, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "quantised" in str(refused(copy))


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("mistral", {"sliding_window": 64}),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}),
    ],
)
def test_a_sliding_window_is_refused(
    architecture: str, settings: dict[str, object], tmp_path: Path
) -> None:
    """It would be computed as full attention: other tokens, and no error."""
    tiny_config(architecture, **settings).save_pretrained(tmp_path)
    message = str(refused(tmp_path))
    assert architecture in message
    assert "sliding window" in message


def test_a_qwen2_whose_window_is_switched_off_is_taken(tmp_path: Path) -> None:
    """Every published Qwen2 has the setting, and nearly none uses it."""
    folder = make_folder(tmp_path, "qwen2", sliding_window=64, use_sliding_window=False)
    assert load_tiny(folder).max_context_tokens == 512


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0},
        {
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "short_factor": [1.0] * 8,
            "long_factor": [2.0] * 8,
            "factor": 2.0,
        },
    ],
)
def test_positions_that_depend_on_the_batch_are_refused(
    rope: dict[str, object], tmp_path: Path
) -> None:
    """The KV of one call would depend on how long another is."""
    tiny_config("llama", rope_parameters=rope).save_pretrained(tmp_path)
    assert str(rope["rope_type"]) in str(refused(tmp_path))
