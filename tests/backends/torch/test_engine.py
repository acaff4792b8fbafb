"""The engine as a runtime uses it: over the shared loop, on an event loop."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from autellix.backends.protocol import EngineCall, Sampling, TokenLogprob
from autellix.backends.stream import FinishReason
from autellix.backends.torch import TorchEngine, TorchOptions, backend
from autellix.backends.torch.runner import ModelRunner
from autellix.core.records import CallReport, CallSpec, Job, Outcome
from autellix.errors import CallFailed, CallRejected, EngineLost, ModelRefused
from autellix.policies import FCFS
from tests.backends.torch.tiny import COSTS, prompt, reference


def make_call(
    call_id: int,
    ids: Sequence[int],
    max_tokens: int,
    *,
    sampling: Sampling | None = None,
    is_streamed: bool = False,
) -> EngineCall:
    """Return a call of a program of its own."""
    spec = CallSpec(
        call_id=call_id,
        program_id=call_id,
        job=Job(program_class="test", program_arrival=call_id),
        inherited_ns=0,
        prompt=ids,
        max_tokens=max_tokens,
    )
    sampling = sampling or Sampling(ignore_end=True)
    return EngineCall(spec=spec, sampling=sampling, is_streamed=is_streamed)


def make_engine(folder: Path, name: str = "tiny", **changes: Any) -> TorchEngine:
    """Return an engine of a tiny model in float32, with costs given."""
    options = TorchOptions(
        model=str(folder),
        name=name,
        dtype="float32",
        kv_tokens=1024,
        host_tokens=1024,
        block_tokens=4,
        threads=1,
        costs=COSTS,
    )
    return TorchEngine(attrs.evolve(options, **changes))


@asynccontextmanager
async def serving(engine: TorchEngine) -> AsyncIterator[TorchEngine]:
    """Enter an engine and serve until the block is left."""
    async with engine, anyio.create_task_group() as tasks:
        await tasks.start(engine.serve, FCFS())
        yield engine
        tasks.cancel_scope.cancel()


class Ends:
    """Keeps reports and lets wait for them."""

    def __init__(self) -> None:
        self.reports: list[CallReport] = []

    def __call__(self, report: CallReport) -> None:
        self.reports.append(report)


async def tokens_of(
    engine: TorchEngine, call: EngineCall, ends: Ends | None = None
) -> list[int]:
    """Return all tokens of a call."""
    ids: list[int] = []
    async with engine.submit(call, ends or Ends()) as stream:
        async for chunk in stream:
            ids.extend(chunk.token_ids)
    return ids


@pytest.mark.both_loops
async def test_calls_side_by_side_get_the_tokens_of_generate(
    llama_folder: Path,
) -> None:
    """Through threads, streams and the loop: the same tokens as alone."""
    prompts = {n: prompt(n, 5 + 7 * n) for n in range(6)}
    got: dict[int, list[int]] = {}
    ends = Ends()
    async with serving(make_engine(llama_folder, slots=4)) as engine:

        async def run(n: int) -> None:
            call = make_call(n, prompts[n], 10, is_streamed=n % 2 == 0)
            got[n] = await tokens_of(engine, call, ends)

        async with anyio.create_task_group() as tasks:
            for n in prompts:
                tasks.start_soon(run, n)
        statistics = engine.statistics()
    assert got == {n: reference(llama_folder, ids, 10) for n, ids in prompts.items()}
    assert [report.outcome for report in ends.reports] == [Outcome.FINISHED] * 6
    assert all(
        report.service_ns + sum(report.wait_ns.values())
        == report.ended_ns - report.submitted_ns
        for report in ends.reports
    )
    assert statistics.device.referenced == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("autellix")]


async def test_two_engines_in_one_process_do_not_meddle(llama_folder: Path) -> None:
    """Each has its own thread, memory and batch."""
    ids = prompt(3, 30)
    expected = reference(llama_folder, ids, 20)
    first, second = (make_engine(llama_folder, name) for name in ("one", "two"))
    got: list[list[int]] = []
    async with serving(first), serving(second):

        async def run(engine: TorchEngine, n: int) -> None:
            got.append(await tokens_of(engine, make_call(n, ids, 20)))

        async with anyio.create_task_group() as tasks:
            for n in range(4):
                tasks.start_soon(run, first, n)
                tasks.start_soon(run, second, n)
    assert got == [expected] * 8


async def test_text_ends_at_the_end_token_and_at_stop_strings(
    llama_folder: Path,
) -> None:
    """Text and reason come from the model's own tokenizer."""
    async with serving(make_engine(llama_folder)) as engine:
        ids = prompt(3, 12)
        made = reference(llama_folder, ids, 20)
        text = engine.tokenizer.decode(made)
        stop = text[5:7]
        call = make_call(1, ids, 20, sampling=Sampling(stop=[stop], ignore_end=True))
        chunks = []
        async with engine.submit(call, Ends()) as stream:
            chunks.extend([chunk.text async for chunk in stream])
        assert "".join(chunks) == text[: text.index(stop)]
        assert stream.finish_reason is FinishReason.STOP


async def test_logprobs_are_reported_where_asked_for(llama_folder: Path) -> None:
    """One entry a token; the likeliest is the greedy one."""
    async with serving(make_engine(llama_folder)) as engine:
        sampling = Sampling(logprobs=2, ignore_end=True)
        logprobs: list[TokenLogprob] = []
        call = make_call(1, prompt(1, 9), 5, sampling=sampling)
        async with engine.submit(call, Ends()) as stream:
            async for chunk in stream:
                logprobs.extend(chunk.logprobs)
    assert len(logprobs) == 5
    for entry in logprobs:
        assert len(entry.top) == 2
        assert entry.logprob == max(entry.top.values()) < 0


async def test_calls_without_a_seed_differ_and_those_with_one_do_not(
    llama_folder: Path,
) -> None:
    """A seed names the random stream; without one it is drawn."""
    async with serving(make_engine(llama_folder)) as engine:

        async def drawn(call_id: int, seed: int | None) -> list[int]:
            sampling = Sampling(temperature=1.0, seed=seed, ignore_end=True)
            return await tokens_of(
                engine, make_call(call_id, [5, 6, 7], 12, sampling=sampling)
            )

        seeded = [await drawn(n, 4) for n in (1, 2)]
        unseeded = [await drawn(n, None) for n in (3, 4)]
    assert seeded[0] == seeded[1]
    assert unseeded[0] != unseeded[1]


async def test_leaving_a_stream_ends_the_call_and_frees_its_blocks(
    llama_folder: Path,
) -> None:
    """The others go on."""
    ends, others = Ends(), Ends()
    async with serving(make_engine(llama_folder)) as engine:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tokens_of, engine, make_call(1, prompt(1, 9), 40), others)
            call = make_call(2, prompt(2, 9), 400, is_streamed=True)
            async with engine.submit(call, ends) as stream:
                async for _ in stream:
                    break
        while not ends.reports:
            await anyio.lowlevel.checkpoint()
        assert engine.statistics().device.referenced == 0
    assert [report.outcome for report in ends.reports] == [Outcome.CANCELLED]
    assert [report.output_tokens for report in others.reports] == [40]


async def test_a_step_that_fails_ends_the_engine_and_all_its_calls(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the cause; nothing hangs, and the engine takes no more calls."""

    def fail(*_: object) -> None:
        raise MemoryError("no memory for a step")

    engine = make_engine(llama_folder)
    ends = Ends()
    failures = []
    async with engine:
        monkeypatch.setattr(ModelRunner, "_forward", fail)

        async def serve() -> None:
            with pytest.raises(EngineLost) as lost:
                await engine.serve(FCFS(), task_status=anyio.TASK_STATUS_IGNORED)
            failures.append(lost.value.__cause__)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(CallFailed):
                await tokens_of(engine, make_call(1, [5], 5), ends)
        with pytest.raises(EngineLost):
            engine.submit(make_call(2, [5], 5), ends)
    assert [type(failure) for failure in failures] == [MemoryError]
    assert [report.outcome for report in ends.reports] == [Outcome.FAILED]


async def test_a_call_that_can_never_fit_is_refused(llama_folder: Path) -> None:
    """By the KV it would need or by the model's context, whichever is less."""
    async with serving(make_engine(llama_folder, kv_tokens=80)) as engine:
        assert engine.capabilities().max_call_tokens == 80
        with pytest.raises(CallRejected, match="81 tokens"):
            engine.submit(make_call(1, [5] * 41, 40), Ends())
    async with serving(make_engine(llama_folder)) as engine:
        assert engine.capabilities().max_context_tokens == 512
        assert engine.capabilities().max_call_tokens == 512
    engine = make_engine(llama_folder, max_context_tokens=100)
    async with engine:
        assert engine.capabilities().max_call_tokens == 100


async def test_a_model_that_is_refused_leaves_no_thread(tmp_path: Path) -> None:
    """Entering fails with the loader's error."""
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(ModelRefused, match="mamba"):
        async with make_engine(tmp_path):
            raise AssertionError("entered")
    assert not [t for t in threading.enumerate() if t.name.startswith("autellix")]


@pytest.mark.both_loops
async def test_giving_up_on_loading_does_not_wait_for_it(llama_folder: Path) -> None:
    """Its thread ends on its own."""
    is_loading, may_load = threading.Event(), threading.Event()

    def hold(doing: str, share: float | None) -> None:
        is_loading.set()
        may_load.wait(60)

    engine = make_engine(llama_folder)
    engine.progress = hold
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.__aenter__)
            await anyio.to_thread.run_sync(is_loading.wait, 10)
            scope.cancel()
    assert scope.cancelled_caught
    threads = [t for t in threading.enumerate() if t.name.startswith("autellix")]
    may_load.set()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join, 10)
        assert not thread.is_alive()


async def test_the_costs_are_measured_where_none_are_given(llama_folder: Path) -> None:
    """And progress says so."""
    said: list[str] = []
    engine = make_engine(llama_folder, costs=None)
    engine.progress = lambda doing, _share: said.append(doing)
    async with engine:
        assert engine.costs.step_ns > 0
        assert engine.costs.nominal_batch == 8
    assert said[0].startswith("loading ")
    assert said[1].startswith("measuring ")
    assert said[-1] == "tiny is ready"


async def test_before_it_is_entered_an_engine_says_so(llama_folder: Path) -> None:
    """Nothing is loaded by making one."""
    engine = make_engine(llama_folder)
    for use in (lambda: engine.tokenizer, engine.capabilities, engine.statistics):
        with pytest.raises(EngineLost, match="'tiny' is not entered"):
            use()


def test_from_pretrained_takes_every_setting_with_the_same_default() -> None:
    """One list of settings, in two places."""
    assert TorchEngine.from_pretrained().options == TorchOptions()
    changed = TorchOptions(
        model="m/n",
        name="x",
        dtype="float32",
        slots=3,
        token_budget=7,
        kv_tokens=100,
        host_tokens=10,
        block_tokens=2,
        max_context_tokens=50,
        threads=2,
        cache_dir="/c",
        caches_prefixes=False,
        retains_prefixes=False,
        costs=COSTS,
        intake_limit_calls=4,
    )
    fields = attrs.asdict(changed, recurse=False)
    assert all(value != getattr(TorchOptions(), k) for k, value in fields.items())
    model = fields.pop("model")
    assert TorchEngine.from_pretrained(model, **fields).options == changed


def test_the_entry_point_gives_settings_and_engine() -> None:
    """What configuration files go through."""
    options, factory = backend
    engine = factory(options(model="a/b"))
    assert (engine.name, engine.model) == ("b", "a/b")


@pytest.mark.parametrize(
    ("model", "named"),
    [("smollm2-135m", "smollm2-135m"), ("Qwen/Q3", "Qwen/Q3"), ("/m/Q3", "Q3")],
)
def test_a_folder_is_named_by_its_last_part(model: str, named: str) -> None:
    """Calls name models, not places."""
    assert TorchEngine.from_pretrained(model).model == named


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slots", 0),
        ("token_budget", 7),
        ("kv_tokens", 15),
        ("dtype", "int8"),
        ("slots", "8"),
        ("caches_prefixes", "no"),
        ("name", 3),
        ("threads", 0),
        ("max_context_tokens", 0),
        ("host_tokens", -1),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_value(
    field: str, value: Any
) -> None:
    """At construction, in one line."""
    with pytest.raises((ValueError, TypeError), match=str(value)) as caught:
        attrs.evolve(TorchOptions(), **{field: value})
    assert "Attribute(" not in str(caught.value)


def test_making_an_engine_imports_no_torch() -> None:
    """It takes seconds, and is done in the engine's thread."""
    code = (
        "import sys; from autellix.backends.torch import TorchEngine; "
        "TorchEngine.from_pretrained(); "
        "assert not {'torch', 'transformers', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_the_backend_names_the_extra() -> None:
    """An error of ours, when the backend is asked for."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from autellix.errors import BackendUnavailable\n"
        "try:\n    import autellix.backends.torch\n"
        "except BackendUnavailable as error:\n    print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert "'torch'" in said
    assert "pip install 'autellix[torch]'" in said
