"""What the consumer of a call gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from autellix.backends.protocol import Sampling
from autellix.backends.stream import FinishReason
from autellix.testing.contract.base import (
    LONG_TOKENS,
    PROMPTS,
    Contract,
)
from autellix.testing.engine_bench import serving

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall


class AnswerContract(Contract):
    """Order of chunks, ends of text, stop strings, seeds."""

    @pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
    async def test_chunks_come_in_order_and_end_once(
        self,
        is_streamed: bool,  # noqa: FBT001 - a case of the test
    ) -> None:
        """The chunks are the answer, in order; then the stream has ended for good."""
        async with serving(self.make_engine()) as bench:
            call = bench.call(max_tokens=LONG_TOKENS, is_streamed=is_streamed)
            async with bench.submit(call) as stream:
                chunks = [chunk async for chunk in stream]
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
            ids = [token for chunk in chunks for token in chunk.token_ids]
            text = "".join(chunk.text for chunk in chunks)
            assert len(ids) == LONG_TOKENS
            assert text == bench.engine.tokenizer.decode(ids)
            assert stream.finish_reason is FinishReason.LENGTH
            assert all(chunk.token_ids or chunk.text for chunk in chunks)
            assert len(chunks) > 1 or not is_streamed
            again = await bench.answer(bench.call(max_tokens=LONG_TOKENS))
            assert again.token_ids == ids, "streaming changes nothing"

    async def test_the_end_of_text_is_no_token_of_the_answer(self) -> None:
        """Token ids never hold an end-of-text token that ended the call."""
        async with serving(self.make_engine()) as bench:
            calls = [
                bench.call(prompt, max_tokens=LONG_TOKENS, sampling=Sampling())
                for prompt in PROMPTS
            ]
            for call, answer in zip(calls, await bench.answers(calls), strict=True):
                assert not bench.engine.tokenizer.end_ids & set(answer.token_ids)
                produced = bench.report(call).output_tokens
                ended_early = produced > len(answer.token_ids)
                assert produced == len(answer.token_ids) + ended_early
                is_stop = answer.reason is FinishReason.STOP
                assert is_stop == ended_early

    async def test_a_stop_string_ends_text_and_call(self) -> None:
        """Text ends before the stop string, and no part of that shows."""
        async with serving(self.make_engine()) as bench:
            whole = await bench.answer(bench.call(max_tokens=LONG_TOKENS))
            stop = whole.text[len(whole.text) // 2 :][:3]
            assert stop, "the engine's answer has no text"
            for is_streamed in (True, False):
                call = bench.call(
                    max_tokens=LONG_TOKENS,
                    sampling=Sampling(stop=[stop], ignore_end=True),
                    is_streamed=is_streamed,
                )
                answer = await bench.answer(call)
                assert answer.text == whole.text[: whole.text.index(stop)]
                assert answer.reason is FinishReason.STOP
                ids = answer.token_ids
                assert ids == whole.token_ids[: len(ids)]
                assert bench.report(call).output_tokens == len(ids) <= LONG_TOKENS

    async def test_seeds_make_sampling_reproducible(self) -> None:
        """With a seed the same call gets the same tokens, alone or among others."""
        async with serving(self.make_engine()) as bench:

            def call(seed: int) -> EngineCall:
                sampling = Sampling(temperature=1.0, seed=seed, ignore_end=True)
                return bench.call(max_tokens=LONG_TOKENS, sampling=sampling)

            alone = [await bench.answer(call(seed)) for seed in range(3)]
            together = await bench.answers([call(seed) for seed in range(3)])
            tokens = [answer.token_ids for answer in alone]
            assert tokens == [answer.token_ids for answer in together]
            assert any(tokens[0] != others for others in tokens[1:])
