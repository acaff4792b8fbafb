"""Text comes in whole characters, is complete, and ends before the first stop."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autellix.backends.simulated.tokenizer import ByteTokenizer
from autellix.backends.text import TextAssembler


class PieceTokenizer:
    """A vocabulary of byte strings, as byte-level BPE has; empty ones are special."""

    end_ids: frozenset[int] = frozenset()

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces
        self.decoded_tokens = 0

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded_tokens += len(ids)
        return b"".join(self.pieces[i] for i in ids).decode(errors="replace")


class SpaceTokenizer(PieceTokenizer):
    """Drops the space in front of a text's first word, as sentencepiece does."""

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode(ids).removeprefix(" ")


def cut_at_first_stop(text: str, stop: Sequence[str]) -> str:
    """Cut ``text`` before the stop that is complete first, the longest of several."""
    ends = [
        (end, len(text[:end].removesuffix(string)))
        for string in stop
        for end in range(len(text) + 1)
        if text[:end].endswith(string)
    ]
    return text[: min(ends)[1]] if ends else text


def assemble(assembler: TextAssembler, ids: Sequence[int]) -> list[str]:
    return [*map(assembler.feed, ids), assembler.flush()]


# Few letters, so that stop strings do occur; many ways to be inside a character.
TEXT = st.text(alphabet="ab é€😀", max_size=30)
JUNK = st.sampled_from([b"\xff", b"\xe2", b"\x82", b"\xf0\x9f", b"\xef\xbf\xbd", b""])
STOP = st.lists(st.text(alphabet="ab é😀", min_size=1, max_size=5), max_size=3)


@st.composite
def split_texts(draw: st.DrawFn) -> list[bytes]:
    """Draw a text with some junk, cut into pieces anywhere, also in characters."""
    data = draw(st.lists(TEXT.map(str.encode) | JUNK, max_size=12))
    whole = b"".join(data)
    cuts = sorted(draw(st.sets(st.integers(0, len(whole)), max_size=40)))
    ends = [*cuts, len(whole)]
    pieces = [whole[a:b] for a, b in zip([0, *cuts], ends, strict=True)]
    for at in draw(st.lists(st.integers(0, len(pieces)), max_size=4)):
        pieces.insert(at, b"")
    return pieces


@pytest.mark.parametrize("tokenizer_class", [PieceTokenizer, SpaceTokenizer])
@given(pieces=split_texts(), stop=STOP)
def test_the_deltas_are_the_text_cut_at_the_first_stop(
    tokenizer_class: type[PieceTokenizer], pieces: list[bytes], stop: list[str]
) -> None:
    """However it is cut into tokens, the deltas add up to the decoded, cut text."""
    tokenizer = tokenizer_class(pieces)
    ids = range(len(pieces))
    assembler = TextAssembler(tokenizer, stop)
    text = tokenizer.decode(ids)
    expected = cut_at_first_stop(text, stop)
    assert "".join(assemble(assembler, ids)) == expected
    assert assembler.is_stopped == any(string in text for string in stop)


@given(pieces=split_texts(), stop=STOP)
def test_what_was_handed_out_is_never_part_of_a_stop(
    pieces: list[bytes], stop: list[str]
) -> None:
    """At any token, all text so far is outside of any stop that may still come."""
    tokenizer = PieceTokenizer(pieces)
    assembler = TextAssembler(tokenizer, stop)
    out = ""
    for token in range(len(pieces)):
        out += assembler.feed(token)
        if assembler.is_stopped:
            break
        whole = tokenizer.decode(range(token + 1))
        for string in stop:
            for chars in range(1, len(string) + 1):
                if whole.endswith(string[:chars]):
                    assert len(out) <= len(whole) - chars


@given(pieces=split_texts())
def test_text_is_held_for_no_longer_than_a_character(pieces: list[bytes]) -> None:
    """Without stop strings all is out but for one unfinished character."""
    tokenizer = PieceTokenizer(pieces)
    assembler = TextAssembler(tokenizer)
    out = ""
    for token in range(len(pieces)):
        out += assembler.feed(token)
        whole = tokenizer.decode(range(token + 1))
        if not whole.endswith("\ufffd"):
            assert out == whole


@given(
    st.lists(st.integers(0, 300), max_size=60),
    st.lists(st.text(min_size=1, max_size=3), max_size=2),
)
def test_the_byte_tokenizer_assembles_too(ids: list[int], stop: list[str]) -> None:
    """The same law with the simulated engine's tokenizer."""
    tokenizer = ByteTokenizer()
    out = "".join(assemble(TextAssembler(tokenizer, stop), ids))
    assert out == cut_at_first_stop(tokenizer.decode(ids), stop)


@pytest.mark.parametrize("piece", [b"a", b"\xff", b"", b"\xe2\x82"])
def test_a_token_costs_the_same_however_long_the_text(piece: bytes) -> None:
    """Decoding is done in a window, also where no character ever gets whole."""

    def decoded(tokens: int) -> int:
        tokenizer = PieceTokenizer([piece])
        assemble(TextAssembler(tokenizer, ["stop"]), [0] * tokens)
        return tokenizer.decoded_tokens

    assert decoded(2_000) <= 2.1 * decoded(1_000)


@pytest.mark.parametrize("junk", range(3, 20))
def test_a_character_after_much_junk_is_whole(junk: int) -> None:
    """Where bytes are cut for being too many, no character is."""
    pieces = [b"\xff"] * junk + [b"\xf0", b"\x9f", b"\x98", b"\x80"]
    tokenizer = PieceTokenizer(pieces)
    ids = range(len(pieces))
    whole = "\ufffd" * junk + "\U0001f600"
    assert "".join(assemble(TextAssembler(tokenizer), ids)) == whole


@pytest.mark.parametrize("words", range(3, 20))
def test_a_space_after_a_special_token_is_kept(words: int) -> None:
    """Only at the very beginning does a tokenizer drop it."""
    pieces = [b" a"] * words + [b""] + [b" b"]
    tokenizer = SpaceTokenizer(pieces)
    ids = range(len(pieces))
    out = "".join(assemble(TextAssembler(tokenizer), ids))
    assert out == tokenizer.decode(ids)


def test_a_stop_is_found_across_tokens_and_ends_the_text() -> None:
    """The text ends before it, and later tokens add nothing."""
    assembler = TextAssembler(PieceTokenizer([b"so EN", b"D", b" it"]), ["END"])
    assert [assembler.feed(0), assembler.feed(1), assembler.feed(2)] == ["so ", "", ""]
    assert assembler.is_stopped
    assert assembler.flush() == ""


def test_what_might_have_been_a_stop_is_flushed() -> None:
    """A stop string that did not come after all is text."""
    assembler = TextAssembler(PieceTokenizer([b"so EN", b"T", b"E"]), ["END"])
    assert [assembler.feed(0), assembler.feed(1), assembler.feed(2)] == [
        "so ",
        "ENT",
        "",
    ]
    assert assembler.flush() == "E"
