"""Seeded calls on vLLM's CPU build, where a prompt is computed in parts.

A part of a prompt is sampled from as well, and the sample thrown away. vLLM then turns
the call's generator back by an offset, which generators on the CPU do not have: the
step fails, and the engine with it (seen in 0.29 and 0.32). Here the state is put back
instead, so that with a seed the tokens do not depend on how the prompt was cut.
"""

from __future__ import annotations

from typing import Any, Final

_NEEDED: Final = ("_sample", "_bookkeeping_sync", "discard_request_mask", "input_batch")


def mend_seeds(runner: Any) -> bool:
    """Mend a model runner in this process; return whether it is as it was known."""
    if not all(hasattr(runner, name) for name in _NEEDED):
        return False
    sample, book = runner._sample, runner._bookkeeping_sync  # noqa: SLF001 - mended
    states: dict[int, Any] = {}

    def sampling(*args: Any, **settings: Any) -> Any:
        batch = runner.input_batch
        mask = runner.discard_request_mask.np[: batch.num_reqs]
        states.clear()
        for index, generator in batch.generators.items():
            if index < len(mask) and mask[index]:
                states[index] = generator.get_state()
        return sample(*args, **settings)

    def booking(*args: Any, **settings: Any) -> Any:
        generators = runner.input_batch.generators
        kept = {index: generators.pop(index) for index in states}
        try:
            return book(*args, **settings)
        finally:
            for index, generator in kept.items():
                generator.set_state(states[index])
            generators.update(kept)
            states.clear()

    runner._sample, runner._bookkeeping_sync = sampling, booking  # noqa: SLF001 - mended
    return True
