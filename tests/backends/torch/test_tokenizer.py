"""The tokenizer behind our protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from autellix.backends.torch.tokenizer import HuggingFaceTokenizer
from autellix.errors import EngineError
from tests.backends.torch.tiny import END, START, make_tokenizer

if TYPE_CHECKING:
    from autellix.backends.torch.model import LoadedModel


@pytest.mark.parametrize("text", ["the fox", " héllo wörld 🦊 ", "a\n\n  b", ""])
def test_decoding_gives_back_what_was_encoded(text: str, llama: LoadedModel) -> None:
    """Spaces, line breaks and characters of several bytes included."""
    assert llama.tokenizer.decode(llama.tokenizer.encode(text)) == text


def test_special_tokens_are_recognised_in_text_and_left_out_of_it(
    llama: LoadedModel,
) -> None:
    """Nothing is added before or behind."""
    ids = llama.tokenizer.encode(f"{START}fox{END}")
    assert ids[0] == 0
    assert ids[-1] == 1
    assert llama.tokenizer.encode("fox") == ids[1:-1]
    assert llama.tokenizer.decode(ids) == "fox"


def test_a_broken_character_decodes_to_a_replacement(llama: LoadedModel) -> None:
    """So that streaming can tell that more is to come."""
    ids = llama.tokenizer.encode("🦊")
    assert len(ids) > 1
    assert llama.tokenizer.decode(ids[:-1]).endswith("\N{REPLACEMENT CHARACTER}")


def test_messages_become_the_text_of_the_chat_template(llama: LoadedModel) -> None:
    """Ready for the reply."""
    messages = [{"role": "user", "content": "fox?"}]
    expected = f"{START}user\nfox?{END}\n{START}assistant\n"
    assert llama.tokenizer.render(messages) == expected


def test_a_model_without_a_template_cannot_chat() -> None:
    """An error that says so, not a guess."""
    bare = make_tokenizer()
    bare.chat_template = None
    with pytest.raises(EngineError, match="no chat template"):
        HuggingFaceTokenizer(bare, []).render([{"role": "user", "content": "fox?"}])


def test_a_text_ends_where_generation_settings_or_tokenizer_say(
    llama: LoadedModel,
) -> None:
    """Llama 3, for one, has three such tokens."""
    assert llama.tokenizer.end_ids == {1}
    assert HuggingFaceTokenizer(make_tokenizer(), [5, 9]).end_ids == {1, 5, 9}
