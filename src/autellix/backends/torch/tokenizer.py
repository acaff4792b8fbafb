"""The model's own tokenizer and chat template behind our protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from autellix.errors import EngineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class HuggingFaceTokenizer:
    """Satisfies ``Tokenizer``. Nothing is added to a text: a template brings its own.

    Args:
        tokenizer: As loaded by ``transformers``.
        end_ids: Ids that end a text by the model's generation settings.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, end_ids: Iterable[int]
    ) -> None:
        self._tokenizer = tokenizer
        own = tokenizer.eos_token_id
        self._end_ids = frozenset(end_ids) | ({own} if own is not None else set())

    @property
    def end_ids(self) -> frozenset[int]:
        """Token ids that end a text."""
        return self._end_ids

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``; special tokens in it are recognised."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids`` without special tokens; broken ones as U+FFFD."""
        return str(
            self._tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the chat template's text for ``messages``, ready for the reply.

        Raises:
            EngineError: The model has no chat template.
        """
        if not self._tokenizer.chat_template:
            name = self._tokenizer.name_or_path
            raise EngineError(f"model {name!r} has no chat template", engine="torch")
        return str(
            self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=True,
            )
        )
