"""Makes and unmakes vLLM engines in this process, which has to be shared.

vLLM keeps the forward pass of the moment and its process groups in module globals. So
all engines of a process step one at a time, and only the last to close takes the groups
with it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import attrs

from autellix.backends.vllm.engine_args import engine_args
from autellix.backends.vllm.environment import importing
from autellix.backends.vllm.faults import refusing
from autellix.backends.vllm.seeds import mend_seeds

if TYPE_CHECKING:
    from pathlib import Path

    from autellix.backends.vllm.environment import Installed
    from autellix.backends.vllm.options import VllmOptions


@attrs.define(eq=False)
class Process:
    """What the engines of a process share, because vLLM does.

    Attributes:
        lock: Held by whichever of them takes a step, is made or unmade.
        engines: How many there are.
    """

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    engines: int = 0


PROCESS: Final = Process()


def make_llm(options: VllmOptions, folder: Path, installed: Installed) -> Any:
    """Return a new ``LLMEngine``; raises as ``importing`` and ``refusing`` do."""
    with importing():
        import torch
        from vllm.engine.arg_utils import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.executor import Executor

    settings = engine_args(options, folder, is_cpu=installed.is_cpu)
    settings.pop("enable_log_requests", None)  # of the other driver
    if installed.is_cpu:  # the compiler takes half a minute to save nothing
        current_platform.simple_compile_backend = "eager"
    set_num_threads = torch.set_num_threads
    with PROCESS.lock, refusing(options, folder, is_cpu=installed.is_cpu):
        try:
            config = EngineArgs(**settings).create_engine_config()
            llm = LLMEngine(
                vllm_config=config,
                executor_class=Executor.get_class(config),
                log_stats=False,
                multiprocess_mode=False,
            )
        finally:  # vLLM takes this from everybody in the process
            torch.set_num_threads = set_num_threads
        PROCESS.engines += 1
    if installed.is_cpu:
        executor = llm.engine_core.engine_core.model_executor
        mend_seeds(getattr(executor.driver_worker, "model_runner", None))
    return llm


def unmake_llm(llm: Any) -> None:
    """End an engine."""
    client = llm.engine_core
    with PROCESS.lock:
        PROCESS.engines -= 1
        if PROCESS.engines:
            client._finalizer.detach()  # noqa: SLF001 - would do it all the same
        else:
            client.shutdown()
