"""vLLM in a thread of this process: ``LLMEngine``, stepped when there is work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from autellix.backends.torch.worker import Worker
from autellix.backends.vllm.driver import News, Opened, samples_of
from autellix.backends.vllm.environment import prepare
from autellix.backends.vllm.faults import of_a_request
from autellix.backends.vllm.observer import Observer, Seen
from autellix.backends.vllm.remote import is_steered
from autellix.backends.vllm.requests import prompt_of, sampling_params, watch
from autellix.backends.vllm.shared_process import PROCESS, make_llm, unmake_llm
from autellix.backends.vllm.steer import Steer
from autellix.backends.vllm.surface import use_of
from autellix.core.records import Outcome
from autellix.errors import InvariantError

if TYPE_CHECKING:
    from pathlib import Path

    from autellix.backends.live_call import TokenSample
    from autellix.backends.protocol import EngineCall, Tokenizer
    from autellix.backends.vllm.options import VllmOptions
    from autellix.backends.vllm.scheduler import ProgramScheduling
    from autellix.backends.vllm.steering import Steering
    from autellix.core.ranking import Ranking
    from autellix.core.snapshot import EngineStatistics


_AT_ONCE_NS: Final = 20_000_000
"""How long steps may go on in the thread while nobody waits for what they bring."""


@attrs.define(eq=False, kw_only=True)
class InProcessDriver:
    """Satisfies ``Driver`` with an ``LLMEngine``.

    Attributes:
        name: Of the engine.
        options: Its settings.
        folder: Of the model.
        tokenizer: Of the model.
    """

    name: str
    options: VllmOptions
    folder: Path
    tokenizer: Tokenizer
    llm: Any = attrs.field(default=None, init=False)
    _worker: Worker | None = attrs.field(default=None, init=False)
    _wanted: list[Callable[[], None]] = attrs.field(factory=list, init=False)
    _top: dict[int, int | None] = attrs.field(factory=dict, init=False)
    _refused: list[tuple[int, Exception]] = attrs.field(factory=list, init=False)
    _idle: anyio.Event | None = attrs.field(default=None, init=False)
    _observer: Observer | None = attrs.field(default=None, init=False)

    async def open(self) -> Opened:
        """Start the thread and make the engine in it."""
        self._worker = Worker(self.name, threads=self.options.threads)
        self._worker.start()
        opened = await self._worker.run(self._make, may_be_left=True)
        if not opened.is_steered:
            await self.steer(Steer.unmeasured())
        return opened

    def _make(self) -> Opened:
        installed = prepare()
        self.llm = make_llm(self.options, self.folder, installed)
        config = self.llm.vllm_config
        cache = config.cache_config
        return Opened(
            version=installed.version,
            max_context_tokens=config.model_config.max_model_len,
            pool_tokens=(cache.num_gpu_blocks - 1) * cache.block_size,
            slots=config.scheduler_config.max_num_seqs,
            caches_prefixes=bool(cache.enable_prefix_caching),
            vocabulary_tokens=config.model_config.get_vocab_size(),
            guides=not config.model_config.skip_tokenizer_init,
            is_steered=is_steered(self._core.scheduler),
        )

    async def close(self) -> None:
        """End the thread and let go of the engine."""
        if self._worker is None:
            return
        if self.llm is not None:
            await self._worker.run(self._unmake)
        self._worker.stop()
        self._worker = None

    def _unmake(self) -> None:
        unmake_llm(self.llm)
        self.llm = None

    @property
    def _core(self) -> Any:
        return self.llm.engine_core.engine_core

    @property
    def _scheduler(self) -> ProgramScheduling:
        scheduler: ProgramScheduling = self._core.scheduler
        return scheduler

    @property
    def _steering(self) -> Steering:
        return self._scheduler.steering

    @property
    def _ledger(self) -> Steering | Observer:
        return self._observer or self._steering

    async def steer(self, steer: Steer) -> None:
        """Say how to steer; no call is live."""
        scheduler: Any = self._core.scheduler
        if is_steered(scheduler):
            scheduler.steer(steer)
            return
        slots = scheduler.max_num_running_reqs
        now_ns = partial(_now_ns, steer.clock_offset_ns)
        self._observer = Observer(slots, steer, now_ns, partial(use_of, scheduler))

    # -- calls -------------------------------------------------------------------

    def send(self, call: EngineCall, submitted_ns: int) -> None:
        """Take a call in; vLLM gets it before its next step."""
        self._want(partial(self._add, call, submitted_ns))

    def abort(self, call_id: int) -> None:
        """End a call before the next step."""
        self._want(partial(self._abort, call_id))

    def _want(self, command: Callable[[], None]) -> None:
        self._wanted.append(command)
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    def _add(self, call: EngineCall, submitted_ns: int) -> None:
        call_id = call.spec.call_id
        try:
            params = sampling_params(call, submitted_ns, self.tokenizer.end_ids)
            priority = self._observe(call, submitted_ns, params)
            self.llm.add_request(
                str(call_id), prompt_of(call), params, priority=priority
            )
        except of_a_request() as error:
            self._refused.append((call_id, error))  # the engine stays up
            if self._observer is not None:
                self._observer.forget(call_id)
        else:
            self._top[call_id] = call.sampling.logprobs

    def _observe(self, call: EngineCall, submitted_ns: int, params: Any) -> int:
        """Return a call's priority, where that is all there is."""
        if self._observer is None:
            return 0
        watch(params)
        return self._observer.add(call.spec, submitted_ns)

    def _abort(self, call_id: int) -> None:
        self.llm.abort_request([str(call_id)])
        self._top.pop(call_id, None)
        if self._observer is not None:
            self._observer.end(call_id, Outcome.CANCELLED)

    # -- steps -------------------------------------------------------------------

    async def news(self) -> News:
        """Take a step as soon as there is something to do.

        Raises:
            InvariantError: The engine is not open.
        """
        if self._worker is None:
            raise InvariantError("a step after the engine was closed")
        while not (self._wanted or self.llm.has_unfinished_requests()):
            self._idle = anyio.Event()
            await self._idle.wait()
        wanted, self._wanted = self._wanted, []
        tokens = await self._worker.run(partial(self._step, wanted))
        refused, self._refused = self._refused, []
        facts = self._ledger.take_facts()
        return News(tokens=tokens, facts=facts, refused=refused)

    def _step(
        self, wanted: Sequence[Callable[[], None]]
    ) -> list[tuple[int, Sequence[TokenSample]]]:
        for command in wanted:
            command()
        if not self.llm.has_unfinished_requests():
            return []
        outputs = self._outputs()
        tokens: list[tuple[int, Sequence[TokenSample]]] = []
        for output in outputs:
            call_id = int(output.request_id)
            samples = samples_of(output.outputs[0], self._top[call_id])
            tokens.append((call_id, samples))
            if output.finished:
                del self._top[call_id]
        return tokens

    def _outputs(self) -> Sequence[Any]:
        """Step until there is something to tell, or for a while.

        Going back to the event loop after each step of a tiny model would cost a tenth
        of its throughput.
        """
        begun_ns = time.monotonic_ns()
        while True:
            with PROCESS.lock:
                started_ns = time.monotonic_ns()
                outputs: Sequence[Any] = self.llm.step()
            if self._observer is not None:
                self._observer.stepped(
                    [Seen.of(output) for output in outputs], started_ns
                )
            is_long = time.monotonic_ns() - begun_ns > _AT_ONCE_NS
            if outputs or self._wanted or is_long:
                return outputs
            if not self.llm.has_unfinished_requests():
                return outputs

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""
        self._ledger.update_ranking(version, ranking)

    async def end_all(self, outcome: Outcome) -> News:
        """End every call in the books, then in vLLM."""
        if self.llm is None:
            return News()
        wanted, self._wanted = self._wanted, []
        for command in wanted:
            command()
        if outcome is Outcome.FAILED or self._observer is not None:
            self._ledger.end_all(outcome)
        self.llm.abort_request([str(call_id) for call_id in self._top])
        self._top.clear()
        refused, self._refused = self._refused, []
        return News(facts=self._ledger.take_facts(), refused=refused)

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot; waits at most while books change."""
        return self._ledger.statistics()


def _now_ns(offset_ns: int) -> int:
    return time.monotonic_ns() + offset_ns
