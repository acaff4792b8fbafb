"""What a driver brings reaches the consumers of calls, and no more than is theirs."""

from __future__ import annotations

from collections.abc import Sequence

from autellix.backends.live_call import LiveCall, TokenSample
from autellix.backends.protocol import EngineCall, Sampling
from autellix.backends.stream import CallStream, FinishReason
from autellix.backends.vllm.delivery import Delivery, unserved
from autellix.backends.vllm.driver import News
from autellix.core.facts import Ended
from autellix.core.records import CallReport, Outcome
from tests.backends.vllm.test_follower import spec


class Letters:
    """A tokenizer of which each token is a letter."""

    end_ids: frozenset[int] = frozenset()

    def encode(self, text: str) -> list[int]:
        """Return the code of each letter."""
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the letters."""
        return "".join(map(chr, ids))

    def render(self, messages: object) -> str:
        """Return nothing: nobody chats."""
        return ""


def tokens(text: str) -> tuple[int, list[TokenSample]]:
    """Return tokens as a driver brings them for call 1."""
    return 1, [TokenSample(token=ord(letter)) for letter in text]


async def test_tokens_after_a_stop_string_are_nobodys() -> None:
    """Steps were under way: the answer ends with its text, and is aborted once."""
    delivery, reports = Delivery("e"), list[CallReport]()
    call = EngineCall(spec=spec(1), sampling=Sampling(stop=["c"]), is_streamed=True)
    stream = CallStream(lambda: None)
    delivery.add(LiveCall(call, stream, reports.append, Letters()), 0)
    assert delivery.take(News(tokens=[tokens("ab"), tokens("c"), tokens("d")])) == [1]
    assert delivery.take(News(tokens=[tokens("e")])) == []
    report = unserved(call.spec, Outcome.CANCELLED, 0, 9)
    ended = Ended(at_ns=9, call_id=1, program_id=1, report=report)
    delivery.take(News(facts=[ended]))
    async with stream:
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == "ab"
    assert [token for chunk in chunks for token in chunk.token_ids] == [97, 98, 99]
    assert stream.finish_reason is FinishReason.STOP
    assert [report.outcome for report in reports] == [Outcome.FINISHED]
