"""What a runtime in front of vLLM knows of a program is the sum over its calls."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from autellix import AutellixRuntime, Event
from autellix.policies import PLAS
from autellix.runtime.events import EventKind
from tests.backends.vllm.runs import tiny_engine


async def test_a_call_inherits_what_all_calls_before_it_had(llama_folder: Path) -> None:
    """Those that were cancelled or met a stop string too: none is lost (A4, A5)."""
    service_s: list[float] = []
    reported = anyio.Event()

    def note(event: Event) -> None:
        if event.kind is EventKind.ENDED:
            service_s.append(float(event.details["service_s"]))
            if len(service_s) == 3:
                reported.set()

    engine = tiny_engine(llama_folder)
    async with AutellixRuntime(engines=[engine], policy=PLAS()) as runtime:
        with runtime.listen(note):
            async with runtime.program("agent") as program:
                prompt = "the quick brown fox"
                whole = await program.generate(prompt, max_tokens=24, ignore_end=True)
                stop = whole.text[len(whole.text) // 2 :][:2]
                stopped = await program.generate(
                    prompt, max_tokens=24, stop=stop, ignore_end=True
                )
                async with program.stream(
                    prompt, max_tokens=100, ignore_end=True
                ) as chunks:
                    await anext(chunks)
                with anyio.fail_after(60):
                    await reported.wait()
                last = await program.generate(prompt, max_tokens=1)
        totals = runtime.statistics()
    assert stopped.report.output_tokens < whole.report.output_tokens
    assert totals.calls.cancelled == 1
    assert len(service_s) == 4
    assert min(service_s) > 0
    assert last.report.inherited_s == pytest.approx(sum(service_s[:3]))
    assert totals.service_s == pytest.approx(sum(service_s))
