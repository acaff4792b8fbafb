"""vLLM's own engine arguments: any can be given, unknown ones are refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from autellix.backends.vllm.tokens import has_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from autellix.backends.vllm.options import VllmOptions

OURS: Final = {
    "model": "model",
    "served_model_name": "model",
    "scheduler_cls": "the backend's own",
    "scheduling_policy": "the runtime's policy",
    "additional_config": "the backend's own",
    "max_num_seqs": "slots",
    "max_num_batched_tokens": "token_budget",
    "max_model_len": "max_context_tokens",
    "block_size": "block_tokens",
    "dtype": "dtype",
    "enable_prefix_caching": "caches_prefixes",
}
"""Arguments that are not to be given to vLLM, and what sets them here."""

SCHEDULER: Final = "autellix.backends.vllm.scheduler.program_scheduler"


def checked(given: Mapping[str, Any], args_class: Any) -> dict[str, Any]:
    """Return the arguments given, once vLLM is known to have them all.

    Raises:
        ValueError: It has no such argument, or a setting of ours is meant.
    """
    known = set(args_class.__dataclass_fields__)
    for name in given:
        if name in OURS:
            raise ValueError(f"engine_args.{name} is not to be given: set {OURS[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"vLLM has no engine argument {name!r}{hint}")
    return dict(given)


def engine_args(
    options: VllmOptions, folder: Path, args_class: Any, *, is_cpu: bool
) -> dict[str, Any]:
    """Return vLLM's engine arguments for our settings; see ``checked``.

    Args:
        options: Ours.
        folder: Of the model.
        args_class: ``AsyncEngineArgs``.
        is_cpu: Whether this vLLM computes on the CPU.
    """
    from autellix.backends.vllm.scheduler import FROM_RUNTIME

    given = checked(options.engine_args, args_class)
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
    return {**settings, **given}


def is_offloading(given: Mapping[str, Any]) -> bool:
    """Say whether vLLM was told to keep KV in host memory (rule K5)."""
    return bool(given.get("kv_offloading_size") or given.get("kv_transfer_config"))
