"""Where our half cannot be mixed in, and what is left to clients then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autellix.backends.vllm import scheduler
from autellix.backends.vllm.scheduler import FROM_RUNTIME, program_scheduler


class Bare:
    """A scheduler of a vLLM that has nothing of what we need."""

    def __init__(self, vllm_config: Any) -> None:
        self.policy = vllm_config.scheduler_config.policy


@pytest.mark.parametrize(
    ("own", "left"), [(FROM_RUNTIME, "priority"), ({}, "fcfs"), (None, "fcfs")]
)
def test_clients_cannot_set_the_priority_where_nobody_else_does(
    own: Any, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime's calls carry their level; a plain server falls back to FCFS."""
    monkeypatch.setattr(scheduler, "install", lambda: None)
    config = SimpleNamespace(
        scheduler_config=SimpleNamespace(
            scheduler_cls="ours", policy="priority", get_scheduler_cls=lambda: Bare
        ),
        additional_config=own,
    )
    made = program_scheduler(config)
    assert isinstance(made, Bare)
    assert made.policy == left
