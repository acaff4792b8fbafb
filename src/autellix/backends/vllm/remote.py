"""What crosses between an engine of ours and its scheduler in vLLM's own process.

vLLM lets a client call any attribute of its ``EngineCore``. One is added there, in the
process where the scheduler lives; everything that goes through it is plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from autellix.backends.vllm.wire import facts_to_wire
from autellix.policies.spec import from_spec, to_spec

if TYPE_CHECKING:
    from autellix.backends.vllm.steer import Steer
    from autellix.core.ranking import Ranking
    from autellix.core.snapshot import EngineStatistics

METHOD: Final = "autellix"
"""Name of our attribute."""
WHY_NOT: Final = "autellix_cannot_steer"
"""Attribute of a scheduler of vLLM's own: the reason why it is not ours."""


def install() -> None:
    """Add our attribute to vLLM's engine core, in this process."""
    from vllm.v1.engine.core import EngineCore

    setattr(EngineCore, METHOD, answer)


def answer(core: Any, question: str, told: Any = None) -> Any:
    """Answer a question about the scheduler of ``core``, or do as told.

    Args:
        core: vLLM's engine core.
        question: ``about``, ``steer``, ``rank`` or ``news``.
        told: What the question needs.

    Raises:
        ValueError: There is no such question.
    """
    scheduler = core.scheduler
    match question:
        case "about":
            return _about(scheduler)
        case "steer":
            scheduler.steer(from_wire(told))
            return None
        case "rank":
            version, ranking = told
            scheduler.steering.update_ranking(version, from_wire(ranking))
            return None
        case "news":
            steering = scheduler.steering
            facts = facts_to_wire(steering.take_facts())
            return {"facts": facts, "statistics": to_wire(steering.statistics())}
        case _:
            raise ValueError(f"no such question: {question!r}")


def is_steered(scheduler: Any) -> bool:
    """Say whether our half of a scheduler of vLLM's is there."""
    return hasattr(scheduler, "steering")


def _about(scheduler: Any) -> dict[str, Any]:
    """Return what an engine has to know of a scheduler: why not, if it is not ours."""
    if not is_steered(scheduler):
        kind = type(scheduler).__name__
        not_ours = f"its scheduler is a {kind}, which is not ours"
        return {"why_not": getattr(scheduler, WHY_NOT, not_ours)}
    return {
        "why_not": None,
        "blocks": scheduler.kv_cache_manager.block_pool.num_gpu_blocks,
        "block_tokens": scheduler.cache_config.block_size,
    }


def to_wire(thing: Steer | Ranking | EngineStatistics) -> dict[str, Any]:
    """Return an attrs object as plain data (rule Q6)."""
    return to_spec(cast("Any", thing))


def from_wire(spec: Mapping[str, Any]) -> Any:
    """Return what ``to_wire`` was given."""
    return from_spec(spec)
