"""Measures what steps cost, by a few calls of known shape at the engine's start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autellix.backends.protocol import EngineCall, Sampling
from autellix.core.cost_model import CostModel
from autellix.core.facts import Ended
from autellix.core.records import CallSpec, Job

if TYPE_CHECKING:
    from autellix.backends.vllm.driver import Driver, Opened

_PREFILL_TOKENS = 96
_STEPS = 6
_RUNS = 2


async def measured(driver: Driver, opened: Opened, now_ns: int) -> CostModel:
    """Return the cost model of an open engine without calls.

    A prompt alone, one call that decodes, then several together: solved for the terms
    of the cost model. It takes about 25 steps.

    Args:
        driver: Of the engine.
        opened: What it is like.
        now_ns: The instant.
    """
    bench = _Bench(driver, now_ns)
    prompt_tokens = min(_PREFILL_TOKENS, opened.pool_tokens // 2)
    prompt_tokens = min(prompt_tokens, opened.max_context_tokens - 1)
    batch = min(4, opened.slots, max(1, opened.pool_tokens // (8 * _STEPS)))
    await bench.service_ns(1, 2, _STEPS)  # the first steps of a process are slow
    prompt_ns = await bench.service_ns(1, prompt_tokens, 1)
    for _ in range(_RUNS - 1):
        prompt_ns = min(prompt_ns, await bench.service_ns(1, prompt_tokens, 1))
    alone_ns = await bench.service_ns(1, 1, _STEPS) // _STEPS
    batch_ns = await bench.service_ns(batch, 1, _STEPS) // _STEPS
    decode_ns = max(0, batch_ns - alone_ns) // max(1, batch - 1)
    step_ns = max(1, alone_ns - decode_ns)
    return CostModel(
        step_ns=step_ns,
        prefill_ns=max(1, (prompt_ns - step_ns) // prompt_tokens),
        decode_ns=decode_ns,
        nominal_batch=opened.slots,
    )


class _Bench:
    """Makes calls that mean nothing and says what they took."""

    def __init__(self, driver: Driver, now_ns: int) -> None:
        self._driver = driver
        self._now_ns = now_ns
        self._calls = 0

    async def service_ns(self, calls: int, prompt_tokens: int, steps: int) -> int:
        """Return the service of the slowest of equal calls made together."""
        waiting = {self._send(prompt_tokens, steps) for _ in range(calls)}
        slowest = 0
        while waiting:
            for fact in (await self._driver.news()).facts:
                if isinstance(fact, Ended):
                    waiting.discard(fact.call_id)
                    slowest = max(slowest, fact.report.service_ns)
        return slowest

    def _send(self, prompt_tokens: int, steps: int) -> int:
        self._calls += 1
        spec = CallSpec(
            call_id=self._calls,
            program_id=self._calls,
            job=Job(program_class="calibration", program_arrival=self._calls),
            inherited_ns=0,
            prompt=[self._calls] * prompt_tokens,  # another one each time: no hits
            max_tokens=steps,
        )
        call = EngineCall(spec=spec, sampling=Sampling(ignore_end=True))
        self._driver.send(call, self._now_ns)
        return spec.call_id
