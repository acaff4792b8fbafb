"""vLLM's own engine arguments: any can be given, unknown ones are refused."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from autellix.backends.arguments import nearest
from autellix.backends.vllm.environment import importing, prepare
from autellix.backends.vllm.tokens import has_tokenizer
from autellix.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from autellix.backends.vllm.options import VllmOptions

SCHEDULER: Final = "autellix.backends.vllm.scheduler.program_scheduler"


class ArgumentsRefused(ConfigError, ValueError):
    """Arguments for vLLM that it does not have.

    A fault of a configuration, and where there is no file a wrong argument.

    Attributes:
        faults: All of them, each with its path: ``engine_args.seeed``.
    """

    def __init__(self, faults: Sequence[ConfigError]) -> None:
        self.faults = faults
        first, *others = faults
        super().__init__(first.message, path=first.path)
        for other in others:
            self.add_note(f"also: {other}")


def check_arguments(given: Mapping[str, Any]) -> None:
    """Look whether the vLLM that is here has these arguments, if any are given.

    That imports it, which takes seconds and may raise ``BackendUnavailable``.

    Raises:
        ArgumentsRefused: It lacks some.
    """
    if not given:
        return
    prepare()
    with importing():
        from vllm.engine.arg_utils import AsyncEngineArgs

        known = AsyncEngineArgs.__dataclass_fields__
    faults = list(unknown_in(given, known))
    if faults:
        raise ArgumentsRefused(faults)


def unknown_in(
    given: Mapping[str, Any], known: Collection[str]
) -> Iterator[ConfigError]:
    """Yield a fault for each argument that is not among those known to vLLM."""
    for name, value in given.items():
        if name not in known:
            yield ConfigError(
                f"vLLM has no such argument, with value {value!r}"
                f"{nearest(name, known)}",
                path=f"engine_args.{name}",
            )


def engine_args(options: VllmOptions, folder: Path, *, is_cpu: bool) -> dict[str, Any]:
    """Return vLLM's engine arguments for our settings.

    Args:
        options: Ours.
        folder: Of the model.
        is_cpu: Whether this vLLM computes on the CPU.
    """
    from autellix.backends.vllm.scheduler import FROM_RUNTIME

    settings: dict[str, Any] = {
        "model": str(folder),
        "scheduler_cls": SCHEDULER,
        "scheduling_policy": "priority",
        "additional_config": FROM_RUNTIME,
        "max_num_seqs": options.slots,
        "enable_prefix_caching": options.caches_prefixes,
        "disable_log_stats": True,
    }
    optional = {
        "max_num_batched_tokens": options.token_budget,
        "max_model_len": options.max_context_tokens,
        "block_size": options.block_tokens or (32 if is_cpu else None),
        "dtype": options.dtype,
    }
    settings |= {name: v for name, v in optional.items() if v is not None}
    if is_cpu:
        settings |= {"enforce_eager": True, "kv_cache_memory_bytes": options.kv_bytes}
    if not has_tokenizer(folder):
        settings["skip_tokenizer_init"] = True
    return {**settings, **options.engine_args}


def is_offloading(given: Mapping[str, Any]) -> bool:
    """Say whether vLLM was told to keep KV in host memory (rule K5)."""
    return bool(given.get("kv_offloading_size") or given.get("kv_transfer_config"))
