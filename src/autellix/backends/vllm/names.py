"""Names that are given and not known, told with what was probably meant.

Settings of ours and arguments of vLLM's are mixed up easily: each is refused where the
other is wanted, and the message says where it goes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from autellix.backends.arguments import nearest

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


def check_settings(given: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse settings that an engine does not have.

    Args:
        given: By name, as they stand in code.
        known: Names of those that there are.

    Raises:
        TypeError: There are some; all of them are told.
    """
    unknown = [
        f"unknown setting {name!r}, with value {value!r}{_meant(name, known)}"
        for name, value in given.items()
        if name not in known
    ]
    if unknown:
        raise TypeError("; ".join(unknown))


def _meant(name: str, known: Collection[str]) -> str:
    if name in OURS:
        return f": set {OURS[name]}"
    return nearest(name, known) or "; vLLM's own arguments go into engine_args"
