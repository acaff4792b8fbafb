"""All kinds of programs at once, as the paper's Mixed workload."""

from __future__ import annotations

from typing import Final

from autellix.workloads.generators.chat import chat_program
from autellix.workloads.generators.distributions import Draws
from autellix.workloads.generators.react import react_program
from autellix.workloads.generators.search import search_program
from autellix.workloads.trace import Trace

_KINDS: Final = (chat_program, react_program, search_program)


def mixed(programs: int, *, seed: int = 0) -> Trace:
    """Generate conversations, tool callers and searches, each as likely.

    Programs keep the class of their kind: ``chat``, ``agent``, ``search``.

    Args:
        programs: How many.
        seed: Same seed, same programs, however many are asked for.
    """
    draws = Draws(f"{seed}/mixed")
    drawn = (draws.one(_KINDS) for _ in range(programs))
    return Trace(
        source="generated: mixed",
        program_class="mixed",
        programs=[make(number, seed) for number, make in enumerate(drawn)],
    )
