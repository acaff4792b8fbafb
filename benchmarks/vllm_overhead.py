"""What our half costs in vLLM: a step of the scheduler, throughput, start.

    python -m benchmarks.vllm_overhead [--pairs N] [--smollm2] [--only PART …]

Scheduler: a step at 128 running and 1,000 waiting calls, its own thread time, with
tokens made up instead of a model; stock and steered schedulers in turn. ``schedule`` is
that method alone, ``step`` adds the booking of what came back. Throughput: 32 greedy
calls of equal length, tokens per CPU-second of the process, plain ``LLMEngine`` and our
engine in turn, the order changing from pair to pair. Share: of the CPU time of such a
run of our engine, how much is spent in what vLLM does itself; as numerator and
denominator are of the same moments, a busy machine disturbs it little. Start: entering
an engine of a tiny model once vLLM is imported. Intervals are of resampled pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from autellix.backends.torch.weights import resolve
from autellix.backends.vllm import VllmEngine, VllmOptions
from autellix.backends.vllm.engine_args import engine_args
from autellix.backends.vllm.environment import prepare
from autellix.backends.vllm.preemption import DEFAULT_COSTS
from autellix.backends.vllm.steer import Steer
from autellix.backends.vllm.wire import CallTicket
from autellix.core.records import CallSpec, Job
from autellix.evaluation.intervals import bootstrap, ratio
from autellix.policies import PLAS
from autellix.testing.engine_bench import serving

if TYPE_CHECKING:
    from autellix.evaluation.intervals import Interval
    from autellix.testing.engine_bench import EngineBench

RUNNING, WAITING = 128, 1_000
STEPS = 60
BATCH, TOKENS = 32, 64
TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
}
PARTS = ("start", "scheduler", "share", "throughput")


def spec(number: int, prompt_tokens: int, max_tokens: int) -> CallSpec:
    """Return a call of a program of its own."""
    return CallSpec(
        call_id=number,
        program_id=number,
        job=Job(program_class="bench", program_arrival=number),
        inherited_ns=0,
        prompt=[1 + number % 900] * prompt_tokens,
        max_tokens=max_tokens,
    )


def llm(options: VllmOptions, *, is_steered: bool) -> Any:
    """Return an ``LLMEngine`` with our scheduler or vLLM's own."""
    from vllm.engine.arg_utils import EngineArgs  # noqa: PLC0415 - only where it is there
    from vllm.v1.engine.llm_engine import LLMEngine  # noqa: PLC0415 - only where it is there

    folder = resolve(options.model, cache_dir=None, progress=lambda *_: None)
    settings = engine_args(options, folder, is_cpu=True)
    if not is_steered:
        for name in ("scheduler_cls", "scheduling_policy", "additional_config"):
            del settings[name]
    return LLMEngine.from_engine_args(EngineArgs(**settings))


def scheduler_with_load(folder: Path, *, is_steered: bool) -> Any:
    """Return a scheduler whose slots are full and whose queue is long."""
    from vllm import SamplingParams  # noqa: PLC0415 - only where it is there

    options = VllmOptions(
        model=str(folder),
        slots=RUNNING,
        kv_mib=64,
        token_budget=4096,
        dtype="float32",
        engine_args={"load_format": "dummy"},
    )
    engine = llm(options, is_steered=is_steered)
    scheduler = engine.engine_core.engine_core.scheduler
    if is_steered:
        policy, step_ns = PLAS(), DEFAULT_COSTS.single_step_ns()
        ranking = policy.ranking(step_ns)
        scheduler.steer(Steer(policy=policy, ranking=ranking, costs=DEFAULT_COSTS))
    for number in range(RUNNING + WAITING):
        call = spec(number, 8, 1_500)
        ticket = CallTicket.of(call, 0)
        params = SamplingParams(
            max_tokens=1_500,
            ignore_eos=True,
            detokenize=False,
            extra_args=ticket.extra_args(),
        )
        prompt = {"prompt_token_ids": list(call.prompt)}
        engine.add_request(str(number), prompt, params)
    return engine, scheduler


def step_ms(scheduler: Any) -> tuple[float, float]:
    """Return the milliseconds of thread time of ``schedule`` and of a whole step."""
    from vllm.v1.outputs import ModelRunnerOutput  # noqa: PLC0415 - only where it is there

    times = []
    for _ in range(STEPS):
        started_ns = time.thread_time_ns()
        output = scheduler.schedule()
        scheduled_ns = time.thread_time_ns()
        ids = list(output.num_scheduled_tokens)
        made = ModelRunnerOutput(
            req_ids=ids,
            req_id_to_index={name: n for n, name in enumerate(ids)},
            sampled_token_ids=[[7] for _ in ids],
        )
        made_ns = time.thread_time_ns()
        scheduler.update_from_output(output, made)
        ended_ns = time.thread_time_ns()
        schedule_ns = scheduled_ns - started_ns
        times.append((schedule_ns / 1e6, (schedule_ns + ended_ns - made_ns) / 1e6))
    return (
        statistics.median(time[0] for time in times),
        statistics.median(time[1] for time in times),
    )


def plain_tokens_per_cpu_s(engine: Any) -> float:
    """Return the throughput of vLLM by itself."""
    from vllm import SamplingParams  # noqa: PLC0415 - only where it is there
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415 - only where it is there

    started_s = time.process_time()
    for number in range(BATCH):
        params = SamplingParams(
            temperature=0.0,
            max_tokens=TOKENS,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = {"prompt_token_ids": list(spec(number, 16, TOKENS).prompt)}
        engine.add_request(str(number), prompt, params)
    while engine.has_unfinished_requests():
        engine.step()
    return BATCH * TOKENS / (time.process_time() - started_s)


async def ours_tokens_per_cpu_s(
    bench: EngineBench, *, is_streamed: bool = False
) -> float:
    """Return the throughput of our engine."""
    calls = []
    for number in range(BATCH):
        prompt = list(spec(number, 16, TOKENS).prompt)
        calls.append(bench.call(prompt, max_tokens=TOKENS, is_streamed=is_streamed))
    started_s = time.process_time()
    await bench.answers(calls)
    return BATCH * TOKENS / (time.process_time() - started_s)


async def throughput(
    options: VllmOptions, pairs: int, tell: Callable[[float, float], None]
) -> None:
    """Measure our engine and plain vLLM in turn, in one process."""
    async with serving(VllmEngine.from_options(options), PLAS()) as bench:
        plain = llm(options, is_steered=False)
        for pair in range(-1, pairs):  # the first warms up
            if pair % 2:
                ours = await ours_tokens_per_cpu_s(bench)
                theirs = plain_tokens_per_cpu_s(plain)
            else:
                theirs = plain_tokens_per_cpu_s(plain)
                ours = await ours_tokens_per_cpu_s(bench)
            if pair >= 0:
                tell(ours, theirs)


class Meter:
    """Adds up the thread time of the methods it is put around.

    Attributes:
        spent_ns: So far.
    """

    def __init__(self) -> None:
        self.spent_ns = 0

    def wrap(self, thing: Any, *names: str) -> None:
        """Measure methods of a thing from now on."""
        for name in names:
            setattr(thing, name, self._measured(getattr(thing, name)))

    def _measured(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **settings: Any) -> Any:
            started_ns = time.thread_time_ns()
            try:
                return method(*args, **settings)
            finally:
                self.spent_ns += time.thread_time_ns() - started_ns

        return measured


async def shares(options: VllmOptions, runs: int, *, is_streamed: bool) -> list[float]:
    """Return vLLM's own share of the CPU time of our engine, run by run."""
    found = []
    async with serving(VllmEngine.from_options(options), PLAS()) as bench:
        engine: Any = bench.engine
        vllm = engine._here.driver.llm  # noqa: SLF001 - only to measure it
        steering = vllm.engine_core.engine_core.scheduler.steering
        theirs, ours = Meter(), Meter()
        theirs.wrap(vllm, "step", "add_request", "abort_request")
        ours.wrap(steering, "add", "finished")
        ours.wrap(steering, "before_schedule", "after_schedule", "after_step")
        for run in range(runs + 1):
            before_ns = theirs.spent_ns - ours.spent_ns
            per_s = await ours_tokens_per_cpu_s(bench, is_streamed=is_streamed)
            own_ns = theirs.spent_ns - ours.spent_ns - before_ns
            if run:  # the first warms up
                found.append(own_ns / 1e9 * per_s / (BATCH * TOKENS))
    return found


async def start_s(folder: Path) -> tuple[float, float, float, float]:
    """Return wall and CPU seconds of entering a first and a second engine."""
    settings: dict[str, Any] = {"slots": 8, "kv_mib": 8, "dtype": "float32"}
    settings["engine_args"] = {"load_format": "dummy"}
    times = []
    async with VllmEngine(folder, name="warm", **settings):
        pass  # what is imported late is imported now
    wall_s, cpu_s = time.monotonic(), time.process_time()
    async with VllmEngine(folder, name="first", **settings):
        times += [time.monotonic() - wall_s, time.process_time() - cpu_s]
        wall_s, cpu_s = time.monotonic(), time.process_time()
        async with VllmEngine(folder, name="second", **settings):
            times += [time.monotonic() - wall_s, time.process_time() - cpu_s]
    return times[0], times[1], times[2], times[3]


def text(found: Interval) -> str:
    """Return a figure and its 95 % interval as text."""
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f}  [{found.low:.3f}, {found.high:.3f}]"


def mean(values: Sequence[float]) -> str:
    """Return mean and 95 % interval as text."""

    def of(picked: Sequence[int]) -> float:
        return statistics.fmean(values[index] for index in picked)

    return text(bootstrap(of, len(values)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--smollm2", action="store_true", help="throughput of it too")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
    prepare()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "config.json").write_text(json.dumps(TINY))
        if "start" in arguments.only:
            starts(folder)
        if "scheduler" in arguments.only:
            schedulers(folder, arguments.pairs)
        tiny = VllmOptions(
            model=str(folder),
            slots=BATCH,
            kv_mib=32,
            dtype="float32",
            engine_args={"load_format": "dummy"},
        )
        models = {"tiny": tiny}
        if arguments.smollm2:
            smollm2 = VllmOptions(slots=BATCH, kv_mib=256, max_context_tokens=512)
            models["smollm2-135m"] = smollm2
        for name, options in models.items():
            if "share" in arguments.only:
                own_shares(name, options, arguments.pairs)
            if "throughput" in arguments.only:
                ratios(name, options, arguments.pairs)


def starts(folder: Path) -> None:
    """Measure and print what it takes to start."""
    first, first_cpu, second, second_cpu = anyio.run(start_s, folder)
    print(
        f"start of an engine, tiny: {first:.2f} s ({first_cpu:.2f} s CPU); "
        f"of a second: {second:.2f} s ({second_cpu:.2f} s CPU)",
        flush=True,
    )


def schedulers(folder: Path, pairs: int) -> None:
    """Measure and print the step of the scheduler."""
    stock_engine, stock = scheduler_with_load(folder, is_steered=False)
    our_engine, ours = scheduler_with_load(folder, is_steered=True)
    rows = []
    for pair in range(pairs + 1):
        if pair % 2:
            mine = step_ms(ours)
            rows.append((step_ms(stock), mine))
        else:
            rows.append((step_ms(stock), step_ms(ours)))
    more = [(mine[0] - his[0], mine[1] - his[1]) for his, mine in rows[1:]]
    his_ms = statistics.fmean(his[0] for his, _ in rows[1:])
    print(f"stock schedule(): {his_ms:.3f} ms")
    print("ours more, schedule(), ms:", mean([row[0] for row in more]))
    print("ours more, whole step, ms:", mean([row[1] for row in more]), flush=True)
    del stock_engine, our_engine


def own_shares(name: str, options: VllmOptions, pairs: int) -> None:
    """Measure and print vLLM's own share of the CPU time."""
    for is_streamed, what in ((False, "whole"), (True, "streamed")):
        found = anyio.run(partial(shares, options, pairs, is_streamed=is_streamed))
        print(f"vLLM's own share, {name}, {what}:", mean(found), flush=True)


def ratios(name: str, options: VllmOptions, pairs: int) -> None:
    """Measure and print the throughput."""
    ours: list[float] = []
    theirs: list[float] = []

    def tell(mine: float, plain: float) -> None:
        ours.append(mine)
        theirs.append(plain)
        print(f"  {name}: {mine:.0f} against {plain:.0f} tokens/CPU-s", flush=True)

    anyio.run(throughput, options, pairs, tell)
    print(f"throughput, {name}, ours / plain:", text(ratio(ours, theirs)), flush=True)


if __name__ == "__main__":
    main()
