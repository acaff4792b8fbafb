"""The tokenizer of a model folder, or what stands for one where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autellix.errors import EngineError

if TYPE_CHECKING:
    from autellix.backends.protocol import Tokenizer

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


class TokenIdsOnly:
    """Of a model without tokenizer: calls bring token ids, and get no text."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    @property
    def end_ids(self) -> frozenset[int]:
        """None: only ``max_tokens`` ends a call."""
        return frozenset()

    def encode(self, text: str) -> list[int]:
        """Refuse.

        Raises:
            EngineError: Always.
        """
        raise EngineError(
            f"model {self._folder!r} has no tokenizer: give token ids, not {text!r}",
            engine="vllm",
        )

    def decode(self, ids: Sequence[int]) -> str:
        """Return no text."""
        return ""

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Refuse.

        Raises:
            EngineError: Always.
        """
        raise EngineError(
            f"model {self._folder!r} has no chat template: give token ids",
            engine="vllm",
        )


def has_tokenizer(folder: Path) -> bool:
    """Say whether a folder brings a tokenizer."""
    return any((folder / name).is_file() for name in _FILES)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder."""
    if not has_tokenizer(folder):
        return TokenIdsOnly(str(folder))
    import transformers

    from autellix.backends.torch.tokenizer import HuggingFaceTokenizer

    auto: Any = transformers.AutoTokenizer
    tokenizer = auto.from_pretrained(folder)
    return HuggingFaceTokenizer(tokenizer, _end_ids(transformers, folder))


def _end_ids(transformers: Any, folder: Path) -> list[int]:
    if not (folder / "generation_config.json").is_file():
        return []
    config = transformers.GenerationConfig.from_pretrained(folder)
    ends = config.eos_token_id
    if ends is None:
        return []
    return [ends] if isinstance(ends, int) else list(ends)
