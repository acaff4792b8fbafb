"""A small load on a vLLM engine in process, and a record of all its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import attrs

from autellix.backends.protocol import EngineCall, Sampling
from autellix.backends.vllm import VllmEngine
from autellix.backends.vllm.engine_args import engine_args
from autellix.backends.vllm.in_process import InProcessDriver
from autellix.backends.vllm.surface import use_of
from autellix.core.cost_model import CostModel
from autellix.core.records import CallSpec, Job
from autellix.testing.engine_bench import EngineBench, serving

if TYPE_CHECKING:
    from autellix.core.call import Call
    from autellix.core.ranking import Policy

COSTS = CostModel(step_ns=2_000_000, prefill_ns=10_000, decode_ns=100_000)
"""Made up, so that decisions do not depend on the machine."""


@attrs.frozen(kw_only=True)
class RecordedCall:
    """A live call as it stood after a decision.

    Attributes:
        place: Level, then place inside the level.
        computed: Tokens whose KV it had before the step; 0 if it has no slot.
        remaining: Most tokens it may still produce.
        tokens: Of prompt and output so far.
        waited_ns: W of its program's fairness window.
        ran_ns: T of it.
        is_promoted: Whether it is on level 0 because its program starved.
    """

    place: tuple[int, ...]
    computed: int
    remaining: int
    tokens: int
    waited_ns: int
    ran_ns: int
    is_promoted: bool

    @property
    def level(self) -> int:
        """Feedback queue it is in."""
        return self.place[0]


@attrs.frozen(kw_only=True)
class RecordedStep:
    """One step as vLLM's scheduler decided it.

    Attributes:
        at_ns: When.
        tokens: Computed of each call of the step, by call id.
        running: Those that hold a slot, by call id.
        waiting: Those that do not.
        free_blocks: Left after the decision.
        run_ns: Mean service of calls by level at entry, as learned until then.
        gap_ns: Mean time between ends in a full batch, as learned until then.
    """

    at_ns: int
    tokens: dict[int, int]
    running: dict[int, RecordedCall]
    waiting: dict[int, RecordedCall]
    free_blocks: int
    run_ns: dict[int, float]
    gap_ns: float | None


@attrs.define(eq=False)
class Recorder:
    """Writes down every decision of an engine's scheduler.

    Attributes:
        steps: All of them.
        repeated: How many of them were booked as the one before again.
    """

    steps: list[RecordedStep] = attrs.field(factory=list)
    repeated: int = 0

    def attach(self, engine: VllmEngine) -> None:
        """Record from now on; the engine must be serving."""
        scheduler = scheduler_of(engine)
        steering, books = scheduler.steering, scheduler.steering.follower
        follow, again, promote = books.follow, books.follow_again, books.promote
        decided_ns = 0

        def promoting(now_ns: int) -> Any:
            nonlocal decided_ns
            decided_ns = now_ns
            return promote(now_ns)

        def record(tokens: dict[int, int], now_ns: int) -> None:
            books.settle()
            line = books.books.line
            waiting = [line[place] for place in line.all]
            self.steps.append(
                RecordedStep(
                    at_ns=now_ns,
                    tokens=tokens,
                    running={
                        c.call_id: seen(c, decided_ns) for c in books.books.running
                    },
                    waiting={c.call_id: seen(c, decided_ns) for c in waiting},
                    free_blocks=use_of(scheduler).free,
                    run_ns=dict(steering.pace.run_ns),
                    gap_ns=steering.pace.gap_ns,
                )
            )

        def following(calls: Any, admitted: Any, short_of: Any, now_ns: int) -> Any:
            plan = follow(calls, admitted, short_of, now_ns)
            record({call.call_id: n for call, n in plan.calls}, now_ns)
            return plan

        def following_again(short_of: Any, now_ns: int) -> Any:
            is_repeated = again(short_of, now_ns)
            if is_repeated:
                self.repeated += 1
                record({call.call_id: 1 for call in books.books.running}, now_ns)
            return is_repeated

        books.follow, books.follow_again = following, following_again
        books.promote = promoting


def seen(call: Call, now_ns: int) -> RecordedCall:
    """Return a call as it stands."""
    clock = call.clock
    since_ns = 0 if clock.is_in_step else max(0, now_ns - clock.settled_ns)
    return RecordedCall(
        place=(call.level, *call.inner),
        computed=call.computed,
        remaining=call.remaining,
        tokens=len(call.tokens),
        waited_ns=clock.window_waited_ns + since_ns,
        ran_ns=clock.window_ran_ns,
        is_promoted=call.is_promoted,
    )


def scheduler_of(engine: VllmEngine) -> Any:
    """Return the scheduler inside an engine in process."""
    driver = engine._here.driver
    assert isinstance(driver, InProcessDriver)
    return driver._core.scheduler


def tiny_engine(folder: Path, **settings: Any) -> VllmEngine:
    """Return an engine of a tiny model in float32, with made-up costs."""
    given = {"dtype": "float32", "slots": 3, "kv_mib": 8, "costs": COSTS}
    return VllmEngine(folder, **{**given, "token_budget": 128, **settings})


@attrs.frozen(kw_only=True)
class Wanted:
    """A call of the load.

    Attributes:
        tokens: How many it produces.
        prompt_tokens: Length of its prompt.
        program: Its program.
        after_steps: When it comes in, in steps of the engine.
        inherited_ns: What its program has had.
        like: Number of the call whose prompt its own begins with.
    """

    tokens: int
    prompt_tokens: int = 20
    program: int | None = None
    after_steps: int = 0
    inherited_ns: int = 0
    like: int | None = None


def prompt_of(wanted: Wanted, number: int) -> list[int]:
    """Return the prompt of a call; every number has its own."""
    number = wanted.like or number
    return [7 + (number * 31 + n * n) % 250 for n in range(wanted.prompt_tokens)]


def call_of(bench: EngineBench, wanted: Wanted, number: int) -> EngineCall:
    """Return a call of the load."""
    program = number if wanted.program is None else wanted.program
    prompt = prompt_of(wanted, number)
    spec = CallSpec(
        call_id=number,
        program_id=program,
        job=Job(program_class="test", program_arrival=program),
        inherited_ns=wanted.inherited_ns,
        prompt=prompt,
        max_tokens=wanted.tokens,
    )
    return EngineCall(spec=spec, sampling=Sampling(ignore_end=True), is_streamed=True)


async def run_load(
    engine: VllmEngine, load: Sequence[Wanted], policy: Policy
) -> tuple[EngineBench, Recorder, list[list[int]]]:
    """Serve a load to its end; return bench, record and the tokens of each call."""
    recorder = Recorder()
    answers: dict[int, list[int]] = {}
    async with serving(engine, policy) as bench:
        recorder.attach(engine)

        async def ask(number: int, wanted: Wanted) -> None:
            while len(recorder.steps) < wanted.after_steps:
                await anyio.lowlevel.checkpoint()
            answer = await bench.answer(call_of(bench, wanted, number))
            answers[number] = answer.token_ids

        async with anyio.create_task_group() as tasks:
            for number, wanted in enumerate(load, start=1):
                tasks.start_soon(ask, number, wanted)
    return bench, recorder, [answers[number + 1] for number in range(len(load))]


def stock_steps(engine: VllmEngine, load: Sequence[Wanted]) -> list[dict[int, int]]:
    """Return what vLLM's own scheduler decides for a load, step by step."""
    from vllm import LLMEngine, SamplingParams  # noqa: PLC0415 - where it is there
    from vllm.engine.arg_utils import EngineArgs  # noqa: PLC0415 - only where it is there

    options = engine.options
    folder = Path(options.model)
    settings = engine_args(options, folder, is_cpu=True)
    for name in ("scheduler_cls", "scheduling_policy", "additional_config"):
        del settings[name]
    llm = LLMEngine.from_engine_args(EngineArgs(**settings))
    core = llm.engine_core.engine_core
    steps: list[dict[int, int]] = []
    schedule = core.scheduler.schedule

    def recorded(*args: Any, **given: Any) -> Any:
        output = schedule(*args, **given)
        tokens = output.num_scheduled_tokens
        steps.append({int(i.split("-")[0]): n for i, n in tokens.items()})
        return output

    core.scheduler.schedule = recorded
    left = dict(enumerate(load, start=1))
    while left or llm.has_unfinished_requests():
        for number in [n for n, w in left.items() if w.after_steps <= len(steps)]:
            wanted = left.pop(number)
            params = SamplingParams(
                temperature=0.0,
                max_tokens=wanted.tokens,
                ignore_eos=True,
                detokenize=False,
            )
            prompt = {"prompt_token_ids": prompt_of(wanted, number)}
            llm.add_request(str(number), prompt, params)
        llm.step()
    llm.engine_core.shutdown()
    return steps
