"""Which models the engine computes rightly; all others are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from autellix.errors import ModelRefused

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
"""Families with full causal attention and nothing beside it, each tested against
``generate``. SmolLM2 is a Llama."""

# Their frequencies depend on the longest sequence of a batch.
_BATCH_DEPENDENT_ROPE = ("dynamic", "longrope")


def check_settings(folder: Path) -> None:
    """Look at ``config.json`` before anything acts on it.

    Raises:
        ModelRefused: It is missing, broken, or names something unsupported.
    """
    path = folder / "config.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = about(folder, f"{path.name} cannot be read: {error}")
        raise ModelRefused(why, engine="torch") from error
    model_type = settings.get("model_type") if isinstance(settings, dict) else None
    if model_type not in ARCHITECTURES:
        raise ModelRefused(
            about(folder, f"its architecture {model_type!r} is not supported: ")
            + f"there are {', '.join(ARCHITECTURES)}",
            engine="torch",
        )
    if "quantization_config" in settings:
        why = about(folder, "quantised weights are not supported")
        raise ModelRefused(why, engine="torch")


def check_attention(folder: Path, config: PreTrainedConfig) -> None:
    """Refuse what is of a supported family, but not full attention.

    Raises:
        ModelRefused: Some layer does not see all that came before.
    """
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    window = getattr(config, "sliding_window", None)
    if kinds or (config.model_type == "mistral" and window is not None):
        kind = f"{config.model_type!r} with a sliding window of {window} tokens"
        why = about(folder, f"architecture {kind} is not supported")
        raise ModelRefused(why, engine="torch")
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope in _BATCH_DEPENDENT_ROPE:
        why = about(folder, f"positions of type {rope!r} are not supported")
        raise ModelRefused(why, engine="torch")


def about(folder: Path, why: str) -> str:
    """Return the message that says what is wrong with a folder."""
    return f"model folder {str(folder)!r}: {why}"
