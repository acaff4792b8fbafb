"""A program's own replies come back as the very tokens they were (rule K2)."""

import re
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from autellix import AutellixRuntime
from autellix.backends.protocol import EngineCall
from autellix.backends.simulated import SimulatedEngine
from autellix.runtime.splice import TokenSplice, certain_part
from tests.fakes import FakeEngine


class PairTokenizer:
    """Merges "ab" into one token; a sampled "a", "b" re-tokenises to something else."""

    PAIR = 200

    @property
    def end_ids(self) -> frozenset[int]:
        return frozenset({0})

    def encode(self, text: str) -> list[int]:
        pieces = re.findall(r"ab|.", text, re.DOTALL)
        return [self.PAIR if piece == "ab" else ord(piece) for piece in pieces]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("ab" if i == self.PAIR else chr(i) for i in ids if i)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        told = "".join(f"{m['role'][0]}:{m['content']};" for m in messages)
        return f"{told}a:"


TOKENIZER = PairTokenizer()


def singly(call: EngineCall) -> list[int]:
    """Answer "ababab…" letter by letter."""
    return [97 + n % 2 for n in range(call.spec.max_tokens)]


def prompts(engine: FakeEngine) -> list[list[int]]:
    """Return the prompts an engine got."""
    return [list(call.spec.prompt) for call in engine.calls]


async def test_the_next_turn_begins_with_the_tokens_of_the_last() -> None:
    """Prompt and sampled ids of every turn are a prefix of the next prompt."""
    engine = FakeEngine(tokenizer=TOKENIZER, reply=singly)
    messages = [{"role": "user", "content": "hello"}]
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("chat") as program,
    ):
        said: list[list[int]] = []
        for _ in range(4):
            result = await program.chat(messages, max_tokens=4)
            assert result.text == "abab"
            said.append([*engine.calls[-1].spec.prompt, *result.token_ids])
            messages += [{"role": "assistant", "content": result.text}]
            messages += [{"role": "user", "content": "more ab"}]
    for before, after in zip(said, prompts(engine)[1:], strict=False):
        assert after[: len(before)] == before
    last = prompts(engine)[-1]
    assert TOKENIZER.decode(last) == TOKENIZER.render(messages[:-2])
    assert last != TOKENIZER.encode(TOKENIZER.decode(last))


async def test_another_programs_replies_are_not_spliced() -> None:
    """What a program has not said itself is encoded like any other text."""
    engine = FakeEngine(tokenizer=TOKENIZER, reply=singly)
    async with AutellixRuntime(engines=[engine]) as runtime:
        for name in ("one", "two"):
            async with runtime.program(name) as program:
                await program.generate("say:" if name == "one" else "say:abab")
    assert prompts(engine)[1] == TOKENIZER.encode("say:abab")


async def test_branches_of_one_beginning_all_find_it() -> None:
    """A fan-out after a reply splices that reply into every branch."""
    engine = FakeEngine(tokenizer=TOKENIZER, reply=singly)
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("tree") as program,
    ):
        root = await program.generate("root:", max_tokens=4)
        begin = "root:" + root.text
        for branch in ("x", "y", "z"):
            await program.generate(begin + branch, max_tokens=4)
    shared = [*map(ord, "root:"), *root.token_ids]
    assert [prompt[: len(shared)] for prompt in prompts(engine)[1:]] == [shared] * 3


async def test_a_reply_cut_by_a_stop_string_is_spliced_up_to_the_cut() -> None:
    """Tokens behind the cut were never said, and must not come back."""
    engine = FakeEngine(tokenizer=TOKENIZER, reply=lambda _: [97, 98, 97, 98])
    splice = TokenSplice()
    part, ids = certain_part("aba", [97, 98, 97, 98, 33], TOKENIZER)
    assert (part, list(ids)) == ("aba", [97, 98, 97])
    splice.remember("q:", [113, 58], part, ids)
    assert splice.encode("q:aba!", TOKENIZER) == [113, 58, 97, 98, 97, 33]
    assert certain_part("xyz", [97, 98], TOKENIZER) == ("", ())
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("react") as program,
    ):
        result = await program.generate("q:", max_tokens=9, stop=["zzz"])
        assert result.finish_reason == "stop"
        await program.generate("q:abab!", max_tokens=1)
    assert prompts(engine)[1] == [113, 58, 97, 98, 97, 98, 33]


async def test_a_reply_an_engine_has_cut_is_spliced_without_what_was_cut() -> None:
    """The next prompt has as many tokens as its text, one a byte here."""
    async with (
        AutellixRuntime(engines=[SimulatedEngine()]) as runtime,
        runtime.program("react") as program,
    ):
        result = await program.generate("q:", max_tokens=200, stop=["e"])
        assert result.finish_reason == "stop"
        assert len(result.token_ids) > len(result.text)
        prompt = "q:" + result.text + "!"
        again = await program.generate(prompt, max_tokens=1)
    assert again.report.prompt_tokens == len(prompt)


async def test_token_ids_given_by_the_caller_go_as_they_are() -> None:
    """Prompts of ids are neither spliced nor remembered as text."""
    engine = FakeEngine(tokenizer=TOKENIZER, reply=singly)
    async with (
        AutellixRuntime(engines=[engine]) as runtime,
        runtime.program("test") as program,
    ):
        await program.generate([113, 58], max_tokens=2)
        await program.generate("q:ab", max_tokens=2)
    assert prompts(engine)[1] == [113, 58, TOKENIZER.PAIR]


def test_the_longest_known_beginning_wins() -> None:
    """Where several replies match, the one that covers most tokens is used."""
    splice = TokenSplice()
    splice.remember("p", [112], "ab", [97, 98])
    splice.remember("pabq", [112, 97, 98, 113], "ab", [97, 98])
    assert splice.encode("pabqab", TOKENIZER) == [112, 97, 98, 113, 97, 98]
    assert splice.encode("pabrab", TOKENIZER) == [112, 97, 98, 114, TOKENIZER.PAIR]


def test_memory_is_bounded_by_branches_not_by_turns() -> None:
    """A long chain is one branch; of many branches the latest used are kept."""
    splice = TokenSplice()
    text, ids = "t", [116]
    for _ in range(100):
        splice.remember(text, ids, "ab", [97, 98])
        text, ids = text + "ab.", [*ids, 97, 98, 46]
    assert len(splice._branches) == 1
    assert splice.encode("tab.ab.x", TOKENIZER)[:6] == [116, 97, 98, 46, 97, 98]
    for number in range(40):
        splice.remember(f"{number}:", [number], "ab", [97, 98])
        assert splice.encode("tab", TOKENIZER) == [116, 97, 98]  # used, so kept
    assert len(splice._branches) == 16
    assert splice.encode("39:ab", TOKENIZER) == [39, 97, 98]
    assert splice.encode("1:ab", TOKENIZER) == TOKENIZER.encode("1:ab")


letters = st.text(alphabet="ab", max_size=3)
turns = st.lists(st.tuples(st.integers(0, 5), letters, letters), max_size=12)


@given(turns=turns)
def test_spliced_ids_are_ids_of_the_text(turns: list[tuple[int, str, str]]) -> None:
    """Whatever was said before, a prompt's ids decode to exactly its text.

    And a prompt that continues a dialogue begins with all of its ids.
    """
    splice = TokenSplice()
    dialogues: list[tuple[str, list[int]]] = [("a", [97])]
    for number, asked, reply in turns:
        before, known = dialogues[number % len(dialogues)]
        prompt = before + asked
        ids = splice.encode(prompt, TOKENIZER)
        assert TOKENIZER.decode(ids) == prompt
        is_known_once = all(
            ids[: len(known)] == known
            for text, ids in dialogues
            if text.startswith(before)
        )
        if len(dialogues) <= 16 and len(known) > 1 and is_known_once:
            assert len(ids) <= len(known) + len(asked)
        reply_ids = [ord(letter) for letter in reply]
        splice.remember(prompt, ids, reply, reply_ids)
        dialogues.append((prompt + reply, [*ids, *reply_ids]))
