"""Programs scaled down to what a small model on two cores serves in seconds.

Chat and Mixed of ``autellix.workloads``, with lengths scaled and programs of many calls
left out, written as trace files: so long that a run has dozens of programs, so short
that it ends within seconds. What is left out changes the shares of sizes: these are not
the workloads of docs/evaluation.md, and only real and simulated runs of these very
programs are to be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from autellix.workloads import adapt
from autellix.workloads.generators import GENERATORS
from autellix.workloads.trace import Trace
from autellix.workloads.trace_file import write_trace

if TYPE_CHECKING:
    from autellix.workloads.trace import TraceProgram

_DRAWN: Final = 400
_SEED: Final = 0


@attrs.frozen(kw_only=True)
class Scale:
    """How programs of a generator are made small.

    Attributes:
        prompts: Factor of what is new in prompts.
        outputs: Factor of outputs.
        most_calls: Programs of more are left out.
        most_tokens: Programs with a longer call are, after scaling.
        kept: How many programs are.
    """

    prompts: float
    outputs: float
    most_calls: int
    most_tokens: int
    kept: int


SCALES: Final[Mapping[str, Mapping[str, Scale]]] = MappingProxyType(
    {
        "chat": {
            "chat": Scale(
                prompts=0.1, outputs=0.03, most_calls=12, most_tokens=256, kept=240
            )
        },
        "mixed": {
            "chat": Scale(
                prompts=0.1, outputs=0.03, most_calls=12, most_tokens=256, kept=60
            ),
            "react": Scale(
                prompts=0.05, outputs=0.1, most_calls=12, most_tokens=256, kept=60
            ),
            "search": Scale(
                prompts=0.05, outputs=0.05, most_calls=24, most_tokens=256, kept=60
            ),
        },
    }
)
"""Of each workload, by the generators it is made of; settled before the first run."""


def small_workload(name: str, folder: Path) -> Path:
    """Write a workload and return its file; the same programs each time."""
    programs = [
        program
        for generator, scale in SCALES[name].items()
        for program in _small(generator, scale)
    ]
    path = folder / f"small-{name}.jsonl.gz"
    source = f"autellix {name}, scaled down: {SCALES[name]}"
    numbered = [
        attrs.evolve(program, program_id=f"{number}")
        for number, program in enumerate(programs)
    ]
    write_trace(path, Trace(source=source, program_class=name, programs=numbered))
    return path


def _small(generator: str, scale: Scale) -> list[TraceProgram]:
    trace = GENERATORS[generator](_DRAWN, seed=_SEED)
    small = adapt.scale_tokens(trace, prompts=scale.prompts, outputs=scale.outputs)
    kept = [
        program
        for program in adapt.without_longer(small, scale.most_tokens).programs
        if len(program.calls) <= scale.most_calls
    ]
    return kept[: scale.kept]
