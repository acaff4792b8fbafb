"""Drives one engine through shapes of known work and times what it does.

Time is taken from one token of a batch to the next; how many steps that were is what
the engine counts, so nothing is assumed about how it cuts prompts into chunks. A window
in which not every call of the batch got a token each step does not count, nor does a
prompt of which anything was computed twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import anyio.lowlevel
import attrs

from autellix.core.cost_model import attended_pairs
from autellix.evaluation.calibration.grid import DECODE_STEPS, Kind

if TYPE_CHECKING:
    from autellix.backends.protocol import EngineCall
    from autellix.backends.stream import CallStream
    from autellix.evaluation.calibration.grid import Shape
    from autellix.testing.engine_bench import EngineBench

_FIRST_ID: Final = 10
_LAST_ID: Final = 32_000
_BYTES: Final = 256


class Features(NamedTuple):
    """What steps did, in the terms of ``CostModel.forward_ns``; sums over the steps."""

    steps: int
    prefill_tokens: int
    decoders: int
    context_tokens: int
    pairs: int


class Window(NamedTuple):
    """Some steps, and what they took.

    Attributes:
        features: What they did.
        wall_ns: By the event loop's clock.
        cpu_ns: CPU time of this process, all threads together.
    """

    features: Features
    wall_ns: int
    cpu_ns: int


class _Mark(NamedTuple):
    """An instant: both clocks, and how many steps the engine has taken."""

    wall_ns: int
    cpu_ns: int
    steps: int


@attrs.define(eq=False)
class _Reader:
    """Reads one call's tokens.

    Attributes:
        call: The call.
        stream: Of its chunks.
        produced: Tokens so far.
    """

    call: EngineCall
    stream: CallStream
    produced: int = attrs.field(default=0, init=False)

    @property
    def computed(self) -> int:
        """Tokens whose KV is there: all but the last one produced."""
        return len(self.call.spec.prompt) + self.produced - 1

    async def next(self) -> bool:
        """Wait for a token; say whether one came before the end."""
        async for chunk in self.stream:
            self.produced += len(chunk.token_ids)
            if chunk.token_ids:
                return True
        return False

    async def read_on(self) -> None:
        """Count tokens until cancelled, or until the call has ended."""
        while await self.next():
            pass


class Probe:
    """Measures one engine.

    Args:
        bench: With the engine on it, serving.
        slots: Most calls in a batch.
        longest_tokens: Most tokens of a prompt.
    """

    def __init__(self, bench: EngineBench, *, slots: int, longest_tokens: int) -> None:
        self._bench = bench
        vocabulary = bench.engine.capabilities().vocabulary_tokens or _BYTES
        self._ids = range(min(_FIRST_ID, vocabulary - 1), min(_LAST_ID, vocabulary))
        self._submitted = 0
        self._chance = random.Random(0)
        self._prompts = [self._fresh(longest_tokens) for _ in range(slots)]

    def _fresh(self, tokens: int) -> list[int]:
        """Return a prompt that no cache has."""
        return self._chance.choices(self._ids, k=tokens)

    async def warm_up(self) -> None:
        """Compute the prompts of all batches once: later they are cached."""
        for prompt in self._prompts:
            await self._prefill(prompt)

    async def windows(self, shape: Shape) -> Sequence[Window]:
        """Return what the engine did in this shape, those windows that are clean."""
        await self._bench.at_rest(self._submitted)
        if shape.kind is Kind.DECODE:
            found = await self._decode(shape)
        elif shape.kind is Kind.PREFILL:
            found = [await self._prefill(self._fresh(shape.prompt_tokens))]
        else:
            found = [await self._mixed(shape)]
        return [window for window in found if window is not None]

    async def _prefill(self, prompt: Sequence[int]) -> Window | None:
        before = self._mark()
        reader = self._submit(prompt, max_tokens=1)
        await reader.next()
        after = self._mark()
        work = await self._prefilled(reader)
        return work and _window(before, after, work)

    async def _decode(self, shape: Shape) -> list[Window | None]:
        found: list[Window | None] = []
        async with self._batch(shape) as readers:
            for _ in range(DECODE_STEPS):
                before, contexts = self._mark(), _contexts(readers)
                if not await _step(readers):
                    break
                work = _decoded(contexts, _contexts(readers))
                found.append(work and _window(before, self._mark(), work))
        return found

    async def _mixed(self, shape: Shape) -> Window | None:
        prompt = self._fresh(shape.prompt_tokens)
        async with self._batch(shape) as readers:
            before, contexts = self._mark(), _contexts(readers)
            newcomer = self._submit(prompt, max_tokens=1)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(newcomer.read_on)
                is_going = True
                while is_going and not newcomer.produced:
                    is_going = await _step(readers)
                after, work = self._mark(), _decoded(contexts, _contexts(readers))
        prefilled = await self._prefilled(newcomer)
        if work is None or prefilled is None:
            return None
        both = prefilled._replace(
            steps=work.steps,
            decoders=work.decoders,
            context_tokens=work.context_tokens,
        )
        return _window(before, after, both)

    async def _prefilled(self, reader: _Reader) -> Features | None:
        """Return what a call of one token did; None: not just its prompt, once."""
        await self._bench.at_rest(self._submitted)
        report = self._bench.report(reader.call)
        cached = report.cached_device_tokens + report.cached_host_tokens
        tokens = report.prompt_tokens - cached
        if report.computed_tokens != tokens:
            return None
        return Features(0, tokens, 0, 0, attended_pairs(cached, tokens))

    @asynccontextmanager
    async def _batch(self, shape: Shape) -> AsyncIterator[Sequence[_Reader]]:
        """Have a batch decode; the last of its calls, behind the others, is not read.

        Yields:
            Its calls, once all of them decode.
        """
        # The first may be ahead by all the chunks that the others' prompts take.
        ahead = shape.batch * (shape.context_tokens // 64 + 1)
        most = DECODE_STEPS + shape.prompt_tokens // 16 + ahead + 8
        async with AsyncExitStack() as streams, anyio.create_task_group() as tasks:
            readers = [
                self._submit(prompt[: shape.context_tokens], max_tokens=most)
                for prompt in self._prompts[: shape.batch]
            ]
            for reader in readers:
                await streams.enter_async_context(reader.stream)
            for reader in readers[:-1]:
                tasks.start_soon(reader.read_on)
            await _step(readers)
            yield readers
            tasks.cancel_scope.cancel()

    def _submit(self, prompt: Sequence[int], *, max_tokens: int) -> _Reader:
        limit = self._bench.engine.capabilities().max_call_tokens
        most = min(max_tokens, limit - len(prompt))
        call = self._bench.call(prompt, max_tokens=most, is_streamed=True)
        self._submitted += 1
        return _Reader(call, self._bench.submit(call))

    def _mark(self) -> _Mark:
        seen = self._bench.engine.statistics()
        wall_ns = round(anyio.current_time() * 1e9)
        return _Mark(wall_ns, time.process_time_ns(), seen.steps)


async def _step(readers: Sequence[_Reader]) -> bool:
    """Wait until the last call of a batch has a token more, and the others theirs.

    Returns:
        Whether one came before the end.
    """
    came = await readers[-1].next()
    await anyio.lowlevel.checkpoint()  # tokens of one step are pushed together
    return came


def _contexts(readers: Sequence[_Reader]) -> Sequence[int]:
    return [reader.computed for reader in readers]


def _decoded(before: Sequence[int], after: Sequence[int]) -> Features | None:
    """Return what a batch did, by its contexts; None: not all calls did the same."""
    grown = {end - start for start, end in zip(before, after, strict=True)}
    if len(grown) > 1 or 0 in grown:
        return None
    (steps,) = grown
    batch = len(before)
    read = steps * sum(before) + batch * steps * (steps - 1) // 2
    return Features(steps, 0, steps * batch, read, 0)


def _window(before: _Mark, after: _Mark, work: Features) -> Window | None:
    """Return a window; None: the engine counted no steps, or others."""
    steps = after.steps - before.steps
    if steps < 1 or (work.decoders and work.steps != steps):
        return None
    return Window(
        work._replace(steps=steps),
        after.wall_ns - before.wall_ns,
        after.cpu_ns - before.cpu_ns,
    )
