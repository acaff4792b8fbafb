"""Settings of a torch engine; importing them does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from autellix.backends.arguments import boolean, integer, one_of, string
from autellix.core.cost_model import CostModel  # noqa: TC001 - read by cattrs

DEFAULT_MODEL: Final = "smollm2-135m"

_optional_positive = integer(1, or_none=True)


@attrs.frozen(kw_only=True)
class TorchOptions:
    """Settings of a torch engine.

    Attributes:
        model: ``smollm2-135m`` (fetched once), a Hugging Face folder, or a name on
            the hub.
        name: Unique in a runtime; None: the last part of ``model``.
        dtype: Of weights and KV; None: bfloat16 where the CPU computes in it, else
            float32. In bfloat16 the text may depend on what shares the batch.
        slots: Most calls in a step.
        token_budget: Most tokens computed in a step; at least ``slots``. Longer steps
            prefill faster and let those that decode wait longer.
        kv_tokens: Tokens whose KV the engine holds.
        host_tokens: Tokens whose KV the host pool holds; 0 is no host pool.
        block_tokens: Tokens a KV block holds.
        max_context_tokens: Most tokens of prompt and output of one call; None, and
            at most: what the model was made for.
        threads: Cores a step may use; None: a fair share among the engines.
        cache_dir: Where the default model is kept; None: ``~/.cache/autellix``, or
            where ``XDG_CACHE_HOME`` says.
        caches_prefixes: Whether KV of earlier calls is reused.
        retains_prefixes: Whether unfinished programs retain theirs (rule K7); else what
            was used least recently goes first.
        costs: What steps and transfers cost; None: measured when the engine starts.
        intake_limit_calls: Most calls the engine wants at a time (B4); None: any.
    """

    model: str = attrs.field(default=DEFAULT_MODEL, validator=string)
    name: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(string)
    )
    dtype: str | None = attrs.field(
        default=None, validator=one_of(("bfloat16", "float32"), or_none=True)
    )
    slots: int = attrs.field(default=8, validator=integer(1))
    token_budget: int = attrs.field(default=256, validator=integer(1))
    kv_tokens: int = attrs.field(default=16_384, validator=integer(1))
    host_tokens: int = attrs.field(default=32_768, validator=integer(0))
    block_tokens: int = attrs.field(default=16, validator=integer(1))
    max_context_tokens: int | None = attrs.field(
        default=None, validator=_optional_positive
    )
    threads: int | None = attrs.field(default=None, validator=_optional_positive)
    cache_dir: Path | None = attrs.field(
        default=None, converter=attrs.converters.optional(Path)
    )
    caches_prefixes: bool = attrs.field(default=True, validator=boolean)
    retains_prefixes: bool = attrs.field(default=True, validator=boolean)
    costs: CostModel | None = None
    intake_limit_calls: int | None = attrs.field(
        default=None, validator=_optional_positive
    )

    @token_budget.validator
    def _check_budget(self, _: object, value: int) -> None:
        if value < self.slots:
            raise ValueError(f"token_budget {value} is below slots {self.slots}")

    def __attrs_post_init__(self) -> None:
        if self.kv_tokens < self.block_tokens:
            raise ValueError(
                f"kv_tokens {self.kv_tokens} is less than a block of "
                f"{self.block_tokens}"
            )

    @property
    def model_name(self) -> str:
        """What calls name when there are several models: a folder by its last part."""
        is_path = self.model.startswith((".", "~")) or Path(self.model).is_absolute()
        return Path(self.model).name if is_path else self.model

    @property
    def engine_name(self) -> str:
        """Name of the engine."""
        return self.name or Path(self.model).name

    @property
    def device_blocks(self) -> int:
        """Blocks the engine holds."""
        return self.kv_tokens // self.block_tokens

    @property
    def host_blocks(self) -> int:
        """Blocks the host pool holds."""
        return self.host_tokens // self.block_tokens
