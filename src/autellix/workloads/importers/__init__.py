"""Traces that other tools write, as ours."""

from autellix.workloads.importers.agentic_mooncake import read_agentic_mooncake
from autellix.workloads.importers.mooncake import read_mooncake

__all__ = ["read_agentic_mooncake", "read_mooncake"]
