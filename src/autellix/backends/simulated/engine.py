"""The simulated engine: the real scheduler, a cost model in place of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import attrs

from autellix.backends.arguments import boolean, integer, nearest, string
from autellix.backends.protocol import Capabilities
from autellix.backends.simulated.babble import Babble
from autellix.backends.simulated.loop import SimulatedLoop
from autellix.backends.simulated.preset_file import SUFFIX, read_preset
from autellix.backends.simulated.presets import LLAMA_8B_A100, PRESETS
from autellix.backends.simulated.tokenizer import ByteTokenizer
from autellix.core.cost_model import CostModel
from autellix.core.kv_blocks import KVBlocks
from autellix.core.limits import StepLimits
from autellix.errors import EngineLost

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from autellix.backends.protocol import EngineCall
    from autellix.backends.stream import CallStream
    from autellix.core.facts import Fact
    from autellix.core.ranking import Policy, Ranking
    from autellix.core.records import CallReport
    from autellix.core.snapshot import EngineStatistics


def _costs(value: CostModel | str) -> CostModel:
    if isinstance(value, CostModel):
        return value
    if not isinstance(value, str):
        raise TypeError(f"'costs' must be a CostModel or a preset's name: {value!r}")
    if value.endswith(SUFFIX):
        return read_preset(Path(value))
    if value not in PRESETS:
        raise ValueError(
            f"no preset {value!r}: there are {', '.join(PRESETS)}, and files "
            f"*{SUFFIX}{nearest(value, PRESETS)}"
        )
    return PRESETS[value]


@attrs.frozen(kw_only=True)
class SimulatedOptions:
    """Settings of a simulated engine.

    Attributes:
        name: Unique in a runtime.
        model: What calls name when there are several models.
        costs: What steps and transfers take; in configuration files also a preset by
            name, or by the path of its file (``autellix calibrate`` makes one).
        slots: Most calls in a step.
        token_budget: Most tokens computed in a step; at least ``slots``.
        kv_tokens: Tokens whose KV the engine holds.
        host_tokens: Tokens whose KV the host pool holds; 0 is no host pool.
        block_tokens: Tokens a KV block holds.
        max_context_tokens: Most tokens of prompt and output of one call.
        round_steps: Steps a scheduling decision holds for (rule S6).
        caches_prefixes: Whether KV of earlier calls is reused.
        retains_prefixes: Whether unfinished programs retain theirs (rule K7); else what
            was used least recently goes first.
        intake_limit_calls: Most calls the engine wants at a time (B4); None: any.
        takes_windows: Whether equal steps are taken together (S10); the results are the
            same, only slower to come by.
        seed: Of what the calls answer.
    """

    name: str = attrs.field(default="simulated", validator=string)
    model: str = attrs.field(default="simulated", validator=string)
    costs: CostModel = attrs.field(default=LLAMA_8B_A100, converter=_costs)
    slots: int = attrs.field(default=64, validator=integer(1))
    token_budget: int = attrs.field(default=2048, validator=integer(1))
    kv_tokens: int = attrs.field(default=131_072, validator=integer(1))
    host_tokens: int = attrs.field(default=524_288, validator=integer(0))
    block_tokens: int = attrs.field(default=16, validator=integer(1))
    max_context_tokens: int = attrs.field(default=32_768, validator=integer(1))
    round_steps: int = attrs.field(default=1, validator=integer(1))
    caches_prefixes: bool = attrs.field(default=True, validator=boolean)
    retains_prefixes: bool = attrs.field(default=True, validator=boolean)
    intake_limit_calls: int | None = attrs.field(
        default=None, validator=integer(1, or_none=True)
    )
    takes_windows: bool = attrs.field(default=True, validator=boolean)
    seed: int = attrs.field(default=0, validator=integer())

    @token_budget.validator
    def _check_budget(self, _: object, value: int) -> None:
        if value < self.slots:
            raise ValueError(f"token_budget {value} is below slots {self.slots}")

    def __attrs_post_init__(self) -> None:
        if self.kv_tokens < self.block_tokens:
            raise ValueError(
                f"kv_tokens {self.kv_tokens} is less than a block of "
                f"{self.block_tokens}"
            )


@attrs.define(eq=False)
class _State:
    """What changes while an engine is used."""

    loop: SimulatedLoop | None = None
    is_entered: bool = False


@attrs.frozen(eq=False, kw_only=True)
class SimulatedEngine(SimulatedOptions):
    """An engine that answers at the speed of its cost model, with made-up letters.

    It schedules, preempts, caches and counts as the real ones do, because it does it
    with the same core. Every call produces ``max_tokens`` tokens unless a stop string
    comes first; the same call gets the same tokens in every run. Takes the same
    arguments as ``SimulatedOptions``. Under ``VirtualTimeLoop`` it takes no time.
    """

    _state: _State = attrs.field(factory=_State, init=False, repr=False)

    @classmethod
    def from_options(cls, options: SimulatedOptions) -> Self:
        """Make an engine from a record of settings."""
        return cls(**attrs.asdict(options, recurse=False))

    @property
    def tokenizer(self) -> ByteTokenizer:
        """One token a byte."""
        return ByteTokenizer()

    async def __aenter__(self) -> Self:
        """Take empty memory; there is nothing to load.

        Raises:
            RuntimeError: It is entered already.
        """
        if self._state.is_entered:
            raise RuntimeError(f"engine {self.name!r} is in use: leave it first")
        self._state.is_entered = True
        self._state.loop = SimulatedLoop(
            name=self.name,
            max_call_tokens=self.capabilities().max_call_tokens,
            limits=StepLimits(
                slots=self.slots,
                token_budget=self.token_budget,
                round_steps=self.round_steps,
            ),
            blocks=KVBlocks(
                device_blocks=self.kv_tokens // self.block_tokens,
                host_blocks=self.host_tokens // self.block_tokens,
                block_tokens=self.block_tokens,
                shares_blocks=True,
                caches_prefixes=self.caches_prefixes,
                retains_prefixes=self.retains_prefixes,
            ),
            costs=self.costs,
            tokenizer=self.tokenizer,
            tokens_of=Babble(self.seed).tokens,
            takes_windows=self.takes_windows,
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End calls that are still live; what was counted stays readable."""
        self._loop.close()
        self._state.is_entered = False

    async def serve(
        self,
        policy: Policy,
        listener: Callable[[Fact], None] | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run steps until cancelled; see ``Engine.serve``."""
        await self._loop.serve(policy, listener, task_status=task_status)

    def capabilities(self) -> Capabilities:
        """Return what this engine can do."""
        blocks = self.kv_tokens // self.block_tokens
        return Capabilities(
            preempts=True,
            swaps=self.host_tokens >= self.block_tokens,
            caches_prefixes=self.caches_prefixes,
            max_context_tokens=self.max_context_tokens,
            max_call_tokens=min(self.max_context_tokens, blocks * self.block_tokens),
            max_batch_calls=self.slots,
            intake_limit_calls=self.intake_limit_calls,
        )

    def submit(
        self, call: EngineCall, ended: Callable[[CallReport], None]
    ) -> CallStream:
        """Take a call in; see ``Engine.submit``."""
        return self._loop.submit(call, ended)

    def forget(self, program_id: int) -> None:
        """Take note that a program has ended; see ``Engine.forget``."""
        self._loop.forget(program_id)

    def update_ranking(self, version: int, ranking: Ranking) -> None:
        """Use another ranking for every placement from now on (rule Q4)."""
        self._loop.update_ranking(version, ranking)

    def statistics(self) -> EngineStatistics:
        """Return a frozen snapshot."""
        return self._loop.statistics()

    def crash(self, error: Exception) -> None:
        """Fail with ``error`` at the end of the step under way, or of the next one.

        For tests of what happens then.
        """
        self._loop.crash(error)

    @property
    def _loop(self) -> SimulatedLoop:
        if self._state.loop is None:
            raise EngineLost(f"engine {self.name!r} is not entered", engine=self.name)
        return self._state.loop
