"""Loads a model folder into modules, tokenizer and the facts the engine needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from autellix.backends.torch.architectures import (
    about,
    check_attention,
    check_settings,
)
from autellix.backends.torch.attention import ATTENTION
from autellix.backends.torch.extents import KVShape
from autellix.backends.torch.hugging_face import loading_alone
from autellix.backends.torch.packing import pack_linears
from autellix.backends.torch.tokenizer import HuggingFaceTokenizer
from autellix.errors import ModelRefused

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from autellix.backends.torch.folder_cache import Progress


@attrs.frozen(kw_only=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        network: The model's modules, attention replaced.
        tokenizer: Its tokenizer.
        max_context_tokens: Most positions it was made for.
        vocabulary_tokens: Rows of its table of tokens; a tokenizer may know fewer.
        fingerprint: Of weights and dtype: KV of equal ones is interchangeable.
    """

    network: PreTrainedModel
    tokenizer: HuggingFaceTokenizer
    max_context_tokens: int
    vocabulary_tokens: int
    fingerprint: str

    def kv_shape(self, block_tokens: int) -> KVShape:
        """Return the shape of a block of its KV."""
        config = self.network.config
        heads = config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        return KVShape(
            layers=config.num_hidden_layers,
            kv_heads=config.num_key_value_heads,
            head_dim=head_dim,
            block_tokens=block_tokens,
            dtype=self.network.dtype,
        )


def load(folder: Path, *, dtype: torch.dtype | None, progress: Progress) -> LoadedModel:
    """Load a model folder into memory; ``ModelRefused`` says what is wrong with one.

    Args:
        folder: ``config.json``, safetensors and a tokenizer.
        dtype: Of weights and KV; None: bfloat16 where the CPU computes in it, else
            float32.
        progress: Told what is being done.
    """
    dtype = dtype or preferred_dtype()
    progress(f"loading {folder.name} as {_name(dtype)}", None)
    check_settings(folder)
    with loading_alone():
        with _refusing(folder, "its config.json"):
            config = transformers.AutoConfig.from_pretrained(folder)
        check_attention(folder, config)
        with _refusing(folder, "the network with its weights"):
            network = _load_network(folder, config, dtype)
        with _refusing(folder, "its tokenizer"):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    vocabulary: Any = network.get_input_embeddings()
    pack_linears(network)
    return LoadedModel(
        network=network,
        tokenizer=HuggingFaceTokenizer(tokenizer, _end_ids(network)),
        max_context_tokens=config.max_position_embeddings,
        vocabulary_tokens=vocabulary.num_embeddings,
        fingerprint=_fingerprint(folder, dtype),
    )


def preferred_dtype() -> torch.dtype:
    """Return bfloat16 where the CPU has instructions for it, else float32."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"):
        return torch.bfloat16
    return torch.float32


def _load_network(
    folder: Path, config: PreTrainedConfig, dtype: torch.dtype
) -> PreTrainedModel:
    """Return the modules with their weights.

    Raises:
        ModelRefused: Weights are missing.
    """
    # Typed as a model alone, but with output_loading_info it is a pair.
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        attn_implementation=ATTENTION,
        use_safetensors=True,
        output_loading_info=True,
    )
    network: PreTrainedModel = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:  # transformers would go on with random numbers
        why = about(folder, f"{len(missing)} weights are missing: {missing[0]} …")
        raise ModelRefused(why, engine="torch")
    return network


def _end_ids(network: PreTrainedModel) -> list[int]:
    ends = getattr(network.generation_config, "eos_token_id", None)
    if ends is None:
        return []
    return [ends] if isinstance(ends, int) else list(ends)


def _fingerprint(folder: Path, dtype: torch.dtype) -> str:
    """Return what tells apart models whose KV differs, without reading all weights."""
    files = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.glob("*.safetensors"))
    ]
    said = f"{folder.resolve()} {files} {_name(dtype)}"
    return hashlib.sha256(said.encode()).hexdigest()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextmanager
def _refusing(folder: Path, part: str) -> Iterator[None]:
    """Turn what loading a part of a folder raises into ``ModelRefused``.

    Yields:
        Nothing.

    Raises:
        ModelRefused: With what was raised as the cause.
    """
    try:
        yield
    except (
        OSError,  # missing files; transformers wraps much in it
        ValueError,
        KeyError,
        RuntimeError,  # weights whose shapes do not fit the configuration
        SafetensorError,
        StrictDataclassError,  # settings that cannot be
    ) as error:
        said = str(error).strip().partition("\n")[0]  # the rest is general advice
        why = about(folder, f"{part} cannot be loaded: {said}")
        raise ModelRefused(why, engine="torch") from error
