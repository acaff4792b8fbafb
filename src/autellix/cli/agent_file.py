"""A user's Python file: imported, and looked through for what to run."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from autellix.errors import ConfigError

Agent: TypeAlias = Callable[[Any, int], Awaitable[Any]]  # of a program, and an index
Main: TypeAlias = Callable[[Any], Awaitable[Any]]  # of a runtime


@attrs.frozen(kw_only=True)
class AgentFile:
    """What a file offers; one of both.

    Attributes:
        name: Class of its programs: the name of the file.
        agent: ``async def agent(program, index)``: one program, run many times.
        main: ``async def main(runtime)``: opens programs as it likes.
    """

    name: str
    agent: Agent | None
    main: Main | None


def load_agent_file(path: Path) -> AgentFile:
    """Import a file; modules beside it can be imported by it.

    Raises:
        ConfigError: It cannot be imported, or does not define exactly one of both.
    """
    if not path.is_file():
        raise ConfigError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"not a Python file: {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickle look there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {error!r}") from error
    found = {
        name: function
        for name in ("agent", "main")
        if inspect.iscoroutinefunction(function := getattr(module, name, None))
    }
    if len(found) != 1:
        raise ConfigError(
            f"{path} must define either 'async def agent(program, index)' or "
            f"'async def main(runtime)'; it defines: {', '.join(found) or 'neither'}"
        )
    return AgentFile(name=path.stem, agent=found.get("agent"), main=found.get("main"))
