"""Settings of a vLLM engine; importing them does not import vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from autellix.backends.arguments import boolean, integer, one_of, string
from autellix.backends.vllm.names import OURS
from autellix.core.cost_model import CostModel

if TYPE_CHECKING:
    from autellix.backends.arguments import Check

DEFAULT_MODEL: Final = "smollm2-135m"
_MIB: Final = 1 << 20

_positive = integer(1)
_optional_positive = integer(1, or_none=True)
_optional_string = attrs.validators.optional(string)


class DriverKind(StrEnum):
    """How vLLM is run."""

    IN_PROCESS = "in-process"
    """``LLMEngine`` in a thread of ours: starts in seconds."""
    ASYNC = "async"
    """``AsyncLLM``: the engine has a process of its own."""


_DRIVERS: Final = [kind.value for kind in DriverKind]  # what is given may have no hash
_driver = one_of(_DRIVERS, or_none=True)

# What cannot be converted goes through, for the validator of the field to refuse.


def _to_text(value: str | Path) -> str:
    return str(value) if isinstance(value, Path) else value


def _to_driver(value: str | None) -> DriverKind | None:
    return DriverKind(value) if value in _DRIVERS else cast("None", value)


def _to_path(value: str | Path | None) -> Path | None:
    return Path(value) if isinstance(value, str) else value


def _to_dict(value: Mapping[str, Any]) -> Any:
    given: Any = value
    return dict(given) if isinstance(given, Mapping) else given


def _must_be(kind: type, noun: str, *, or_none: bool = True) -> Check:
    """Check for an instance of a class of ours, or of Python's."""

    def check(_: object, field: attrs.Attribute[Any], value: Any) -> None:
        if not (isinstance(value, kind) or (or_none and value is None)):
            raise TypeError(f"'{field.name}' must be a {noun}: {value!r}")

    return check


@attrs.frozen(kw_only=True)
class VllmOptions:
    """Settings of a vLLM engine.

    Attributes:
        model: ``smollm2-135m`` (fetched once), a Hugging Face folder, or a name on the
            hub.
        name: Unique in a runtime; None: the last part of ``model``.
        driver: How vLLM is run; None: in process on the CPU, else in its own.
        dtype: Of weights and KV, in vLLM's words; None: as vLLM chooses.
        slots: Most calls in a step.
        token_budget: Most tokens computed in a step; None: as vLLM chooses.
        kv_mib: Memory for KV, on the CPU; elsewhere ``engine_args`` of vLLM say.
        block_tokens: Tokens a KV block holds; None: 32 on the CPU, where vLLM's own
            choice of 128 makes preemption dear, else as vLLM chooses.
        max_context_tokens: Most tokens of prompt and output of one call; None: what
            the model was made for.
        threads: Cores a step may use in process; with other work on the machine two
            can be much slower than one.
        cache_dir: Where the default model is kept; None: ``~/.cache/autellix``, or
            where ``XDG_CACHE_HOME`` says.
        caches_prefixes: Whether KV of earlier calls is reused.
        costs: What steps cost; None: measured when the engine starts.
        preempts: Whether a better call takes the place of a running one, where it pays.
        hysteresis_levels: How much worse a call must be to be preempted.
        intake_limit_calls: Most calls the engine wants at a time (B4); None: any.
        engine_args: Further arguments of vLLM's ``AsyncEngineArgs``.
    """

    model: str = attrs.field(
        default=DEFAULT_MODEL, converter=_to_text, validator=string
    )
    name: str | None = attrs.field(default=None, validator=_optional_string)
    driver: DriverKind | None = attrs.field(
        default=None, converter=_to_driver, validator=_driver
    )
    dtype: str | None = attrs.field(default=None, validator=_optional_string)
    slots: int = attrs.field(default=8, validator=_positive)
    token_budget: int | None = attrs.field(default=None, validator=_optional_positive)
    kv_mib: int = attrs.field(default=512, validator=_positive)
    block_tokens: int | None = attrs.field(default=None, validator=_optional_positive)
    max_context_tokens: int | None = attrs.field(
        default=None, validator=_optional_positive
    )
    threads: int = attrs.field(default=1, validator=_positive)
    cache_dir: Path | None = attrs.field(
        default=None, converter=_to_path, validator=_must_be(Path, "path")
    )
    caches_prefixes: bool = attrs.field(default=True, validator=boolean)
    costs: CostModel | None = attrs.field(
        default=None, validator=_must_be(CostModel, "CostModel")
    )
    preempts: bool = attrs.field(default=True, validator=boolean)
    hysteresis_levels: int = attrs.field(default=1, validator=_positive)
    intake_limit_calls: int | None = attrs.field(
        default=None, validator=_optional_positive
    )
    engine_args: Mapping[str, Any] = attrs.field(
        factory=dict,
        converter=_to_dict,
        validator=_must_be(Mapping, "mapping", or_none=False),
    )

    @engine_args.validator
    def _check_arguments(self, field: Any, value: Mapping[Any, Any]) -> None:
        nameless = [
            f"{name!r}, with value {value[name]!r}"
            for name in value
            if not isinstance(name, str)
        ]
        if nameless:
            raise TypeError(
                f"'{field.name}' must have strings as names: {'; '.join(nameless)}"
            )
        ours = [
            f"{name!r}, with value {value[name]!r}: set {OURS[name]}"
            for name in value
            if name in OURS
        ]
        if ours:
            raise ValueError(f"'{field.name}' must not have {'; '.join(ours)}")

    @token_budget.validator
    def _check_budget(self, _: object, value: int | None) -> None:
        if value is not None and value < self.slots:
            raise ValueError(f"token_budget {value} is below slots {self.slots}")

    @property
    def kv_bytes(self) -> int:
        """Memory for KV on the CPU, bytes."""
        return self.kv_mib * _MIB

    @property
    def model_name(self) -> str:
        """What calls name when there are several models: a folder by its last part."""
        is_path = self.model.startswith((".", "~")) or Path(self.model).is_absolute()
        return Path(self.model).name if is_path else self.model

    @property
    def engine_name(self) -> str:
        """Name of the engine."""
        return self.name or Path(self.model).name
