"""vLLM in a process of its own: ``AsyncLLM``, as on GPUs.

What the scheduler's ledger wrote is asked for when a call has ended here, and now and
then. As tokens and reports come by different ways, a report, and all that was written
after it, is held back until all tokens of its call are there.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - AsyncLLM is of asyncio, and nothing else
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import attrs

from autellix.backends.vllm.driver import News, Opened, at_rest, samples_of
from autellix.backends.vllm.engine_args import engine_args
from autellix.backends.vllm.environment import importing, prepare
from autellix.backends.vllm.faults import of_a_request, refusing
from autellix.backends.vllm.remote import METHOD, from_wire, to_wire
from autellix.backends.vllm.requests import prompt_of, sampling_params
from autellix.backends.vllm.wire import facts_from_wire
from autellix.core.facts import Ended
from autellix.core.records import Outcome
from autellix.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from autellix.backends.live_call import TokenSample
    from autellix.backends.protocol import EngineCall, Tokenizer
    from autellix.backends.vllm.environment import Installed
    from autellix.backends.vllm.options import VllmOptions
    from autellix.backends.vllm.steer import Steer
    from autellix.core.facts import Fact
    from autellix.core.ranking import Ranking
    from autellix.core.snapshot import EngineStatistics

_ASK_AGAIN_S: Final = 0.005
_ENDING_S: Final = 10.0
"""How long calls may take to end when the engine is left."""


@attrs.define(eq=False, kw_only=True)
class OwnProcessDriver:
    """Satisfies ``Driver`` with an ``AsyncLLM``; needs asyncio, as that does.

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
    _is_cpu: bool = attrs.field(default=False, init=False)
    _tasks: dict[int, asyncio.Task[None]] = attrs.field(factory=dict, init=False)
    _entered: set[int] = attrs.field(factory=set, init=False)
    """Calls that vLLM has; a cut before would leave nothing that is reported."""
    _cut: set[int] = attrs.field(factory=set, init=False)
    """Calls to be aborted as soon as vLLM has them."""
    _owed: set[int] = attrs.field(factory=set, init=False)
    """Calls whose report is to come."""
    _held: list[Fact] = attrs.field(factory=list, init=False)
    _tokens: list[tuple[int, Sequence[TokenSample]]] = attrs.field(
        factory=list, init=False
    )
    _refused: list[tuple[int, Exception]] = attrs.field(factory=list, init=False)
    _rankings: list[tuple[int, Any]] = attrs.field(factory=list, init=False)
    _failure: Exception | None = attrs.field(default=None, init=False)
    _wants_news: bool = attrs.field(default=False, init=False)
    _dead: asyncio.Event = attrs.field(factory=asyncio.Event, init=False)
    _event: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _statistics: EngineStatistics | None = attrs.field(default=None, init=False)

    async def open(self) -> Opened:
        """Start vLLM's process and wait until the model is loaded.

        Raises:
            EngineError: This is not asyncio, or its scheduler cannot be steered.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError as error:
            raise EngineError(
                "vLLM in a process of its own needs asyncio; in process it runs on "
                "any event loop",
                engine=self.name,
            ) from error
        installed = await anyio.to_thread.run_sync(prepare)
        self._is_cpu = installed.is_cpu
        self.llm = await anyio.to_thread.run_sync(partial(self._make, installed))
        self.llm.add_request = partial(self._enter, self.llm.add_request)
        about = await self._ask("about")
        config = self.llm.vllm_config
        if about["why_not"] is not None:
            raise EngineError(
                f"engine {self.name!r}: driver 'async' has nothing to fall back to, "
                f"and vLLM {installed.version} cannot be steered: {about['why_not']}. "
                "With driver = 'in-process' it runs by vLLM's own priority",
                engine=self.name,
            )
        await self._refresh()
        return Opened(
            version=installed.version,
            max_context_tokens=config.model_config.max_model_len,
            pool_tokens=(about["blocks"] - 1) * about["block_tokens"],
            slots=config.scheduler_config.max_num_seqs,
            caches_prefixes=bool(config.cache_config.enable_prefix_caching),
            vocabulary_tokens=config.model_config.get_vocab_size(),
            guides=not config.model_config.skip_tokenizer_init,
            is_steered=True,
        )

    def _make(self, installed: Installed) -> Any:
        with importing():
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

        settings = engine_args(self.options, self.folder, is_cpu=installed.is_cpu)
        if installed.is_cpu:
            os.environ.setdefault("OMP_NUM_THREADS", str(self.options.threads))
        with refusing(self.options, self.folder, is_cpu=installed.is_cpu):
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**settings))

    async def close(self) -> None:
        """End vLLM's process."""
        if self.llm is not None:
            llm, self.llm = self.llm, None
            await anyio.to_thread.run_sync(llm.shutdown)

    async def _ask(self, question: str, told: Any = None) -> Any:
        """Return what the other process answers; it may die over it.

        Raises:
            EngineError: It did.
        """
        asked = self.llm.engine_core.call_utility_async(METHOD, question, told)
        answer = asyncio.ensure_future(asked)
        death = asyncio.ensure_future(self._dead.wait())
        try:
            await asyncio.wait({answer, death}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
        finally:
            answer.cancel()
            death.cancel()
        raise EngineError("vLLM's process has died", engine=self.name) from (
            self._failure
        )

    async def steer(self, steer: Steer) -> None:
        """Say how to steer; no call is live."""
        await self._ask("steer", to_wire(steer))

    # -- calls -------------------------------------------------------------------

    def send(self, call: EngineCall, submitted_ns: int) -> None:
        """Take a call in; a task of its own collects its tokens, as vLLM wants it."""
        call_id = call.spec.call_id
        task = asyncio.get_running_loop().create_task(
            self._collect(call, submitted_ns), name=f"{self.name} call {call_id}"
        )
        self._tasks[call_id] = task
        self._owed.add(call_id)
        task.add_done_callback(partial(self._collected, call_id))

    async def _collect(self, call: EngineCall, submitted_ns: int) -> None:
        call_id, top = call.spec.call_id, call.sampling.logprobs
        if self._is_cpu and call.sampling.seed is not None:
            raise ValueError(
                f"seed {call.sampling.seed}: in a process of its own vLLM's CPU build "
                "dies of it (see seeds.py): set driver = 'in-process'"
            )
        params = sampling_params(call, submitted_ns, self.tokenizer.end_ids)
        outputs = self.llm.generate(prompt_of(call), params, str(call_id))
        async for output in outputs:
            samples = samples_of(output.outputs[0], top)
            self._tokens.append((call_id, samples))
            self._event.set()

    async def _enter(self, add: Any, request_id: str, *args: Any, **given: Any) -> Any:
        """Let vLLM take a request in, and abort it then if it was cut meanwhile."""
        added = await add(request_id, *args, **given)
        call_id = int(request_id)
        self._entered.add(call_id)
        if call_id in self._cut:
            self._tasks[call_id].cancel()
        return added

    def _collected(self, call_id: int, task: asyncio.Task[None]) -> None:
        """Look how a call's task ended."""
        del self._tasks[call_id]
        self._entered.discard(call_id)
        self._cut.discard(call_id)
        self._event.set()
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, of_a_request()):
            self._owed.discard(call_id)
            self._refused.append((call_id, error))
        elif isinstance(error, Exception):
            self._failure = self._failure or error
            self._dead.set()

    def abort(self, call_id: int) -> None:
        """End a call; vLLM aborts what nobody collects."""
        task = self._tasks.get(call_id)
        if task is None:
            return
        self._cut.add(call_id)
        if call_id in self._entered:
            task.cancel()

    # -- news --------------------------------------------------------------------

    async def news(self) -> News:
        """Wait for tokens, an end, or somebody who wants to know."""
        while not self._has_news():
            self._event = anyio.Event()
            await self._event.wait()
        if self._failure is not None:
            raise self._failure
        rankings, self._rankings = self._rankings, []
        for version, ranking in rankings:
            await self._ask("rank", [version, ranking])
        if self._wants_news or any(c not in self._tasks for c in self._owed):
            were_held = len(self._held)
            await self._refresh()
            if len(self._held) == were_held:
                await anyio.sleep(_ASK_AGAIN_S)
        tokens, self._tokens = self._tokens, []
        refused, self._refused = self._refused, []
        return News(tokens=tokens, facts=self._released(), refused=refused)

    def _has_news(self) -> bool:
        if self._tokens or self._refused or self._rankings or self._wants_news:
            return True
        is_over = any(call_id not in self._tasks for call_id in self._owed)
        return is_over or self._failure is not None

    async def _refresh(self) -> None:
        """Ask for what was written."""
        self._wants_news = False
        told = await self._ask("news")
        self._statistics = from_wire(told["statistics"])
        self._held += facts_from_wire(told["facts"])

    def _released(self) -> list[Fact]:
        """Return facts, in order, up to a report whose call lacks tokens."""
        count = 0
        for fact in self._held:
            if isinstance(fact, Ended):
                if fact.call_id in self._tasks:
                    break
                self._owed.discard(fact.call_id)
            count += 1
        released, self._held = self._held[:count], self._held[count:]
        return released

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""
        self._rankings.append((version, to_wire(ranking)))
        self._event.set()

    async def end_all(self, outcome: Outcome) -> News:
        """Abort every call, and collect the reports if the engine still lives."""
        facts: list[Fact] = []
        if outcome is not Outcome.FAILED and self.llm is not None:
            for call_id in list(self._tasks):
                self.abort(call_id)
            with anyio.move_on_after(_ENDING_S):
                while self._owed:
                    await self._refresh()
                    facts += self._released()
                    await anyio.sleep(_ASK_AGAIN_S)
        else:
            self._statistics = at_rest(self._statistics)
        for task in list(self._tasks.values()):
            task.cancel()
        self._owed.clear()  # whose report did not come in time: it never will
        tokens, self._tokens = self._tokens, []
        refused, self._refused = self._refused, []
        return News(tokens=tokens, facts=facts, refused=refused)

    def statistics(self) -> EngineStatistics:
        """Return the last snapshot that was sent; another one is asked for."""
        self._wants_news = True
        self._event.set()
        assert self._statistics is not None  # noqa: S101 - there is one once open
        return self._statistics
