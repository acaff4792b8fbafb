"""The byte tokenizer loses nothing and shows everything."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from autellix.backends.simulated.tokenizer import ByteTokenizer


@given(st.text())
def test_text_survives_the_round_trip(text: str) -> None:
    """Encoding and decoding give the text back, but for special tokens."""
    tokenizer = ByteTokenizer()
    shown = text.replace("<|im_start|>", "").replace("<|im_end|>", "")
    assert tokenizer.decode(tokenizer.encode(text)) == shown


@given(st.lists(st.integers(258, 2**40)))
def test_made_up_ids_are_printable(ids: list[int]) -> None:
    """Ids without a meaning decode to one printable character each."""
    text = ByteTokenizer().decode(ids)
    assert len(text) == len(ids)
    assert text.isprintable()


def test_messages_are_framed_by_special_tokens() -> None:
    """Each message begins and ends with its special token, and a reply is begun."""
    tokenizer = ByteTokenizer()
    text = tokenizer.render([{"role": "user", "content": "Hi"}])
    ids = tokenizer.encode(text)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    (end,) = tokenizer.end_ids
    assert ids.count(end) == 1
    assert ids.count(256) == 2
    assert tokenizer.decode(ids) == "user\nHi\nassistant\n"


def test_ids_in_an_array_are_numbers_too() -> None:
    """Not the bytes of its memory."""
    assert ByteTokenizer().decode(array("I", [72, 105])) == "Hi"
