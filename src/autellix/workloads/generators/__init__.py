"""Made-up programs like real ones: trace files are not part of the package.

Each generator states in its docstring what it is fitted to, and a test holds it to
that.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from autellix.workloads.generators.chat import chat
from autellix.workloads.generators.mixed import mixed
from autellix.workloads.generators.react import react
from autellix.workloads.generators.search import search
from autellix.workloads.trace import Trace

__all__ = ["GENERATORS", "chat", "mixed", "react", "search"]

GENERATORS: Final[Mapping[str, Callable[..., Trace]]] = MappingProxyType(
    {"chat": chat, "react": react, "search": search, "mixed": mixed}
)
"""By name: ``GENERATORS[name](programs, seed=seed)``."""
