"""A user's Python file: imported, and looked through for what to run."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from textwrap import indent
from types import MappingProxyType, ModuleType
from typing import Any, Final, TypeAlias

import attrs

from autellix.cli.failures import line_in, traceback_from
from autellix.errors import ConfigError

Agent: TypeAlias = Callable[[Any, int], Awaitable[Any]]  # of a program, and an index
Main: TypeAlias = Callable[[Any], Awaitable[Any]]  # of a runtime

_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"agent": ("program", "index"), "main": ("runtime",)}
)


@attrs.frozen(kw_only=True)
class AgentFile:
    """What a file offers; one of both.

    Attributes:
        name: Class of its programs: the name of the file.
        path: As tracebacks show it.
        agent: ``async def agent(program, index)``: one program, run many times.
        main: ``async def main(runtime)``: opens programs as it likes.
    """

    name: str
    path: Path
    agent: Agent | None
    main: Main | None


def load_agent_file(path: Path) -> AgentFile:
    """Import a file; modules beside it can be imported by it.

    Raises:
        ConfigError: It cannot be imported, or does not define exactly one of both.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: give the Python file to run")
    if not path.is_file():
        raise ConfigError(f"no such file: {path}")
    path = path.absolute()
    module = _imported(path)
    found = {
        name: function
        for name in _PARAMETERS
        if callable(function := getattr(module, name, None))
    }
    # A file that is also a script often has a plain main beside its agent.
    ready = {name: one for name, one in found.items() if _is_async(one)}
    if len(ready) > 1 or not found:
        raise ConfigError(
            f"{path} must define either 'async def agent(program, index)' or "
            f"'async def main(runtime)'; it defines: {', '.join(ready) or 'neither'}"
        )
    for name, function in (ready or found).items():
        _check_callable(name, function, path)
    return AgentFile(
        name=path.stem,
        path=path,
        agent=ready.get("agent"),
        main=ready.get("main"),
    )


def _imported(path: Path) -> ModuleType:
    """Return the module of a file.

    Raises:
        ConfigError: It cannot be imported; says in which line.
    """
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"not a Python file: {path}")
    if name in sys.stdlib_module_names | {"autellix"}:
        raise ConfigError(f"{path} hides the module {name!r}: rename the file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # of a user's code: any
        where, what = _failure(error, path)
        told = ConfigError(f"{where} cannot be imported: {what}")
        told.add_note(indent(traceback_from(error, path), "  ").strip())
        raise told from error
    return module


def _failure(error: Exception, path: Path) -> tuple[str, str]:
    """Return in which line of a file its import failed, and with what."""
    line, message = line_in(error, path), str(error)
    if isinstance(error, SyntaxError) and line is None:  # of this very file
        line, message = error.lineno, error.msg
    where = f"{path}, line {line}," if line else f"{path}"
    return where, f"{type(error).__name__}: {message}"


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function)


def _check_callable(name: str, function: Callable[..., Any], path: Path) -> None:
    """Refuse a function that cannot be awaited, or not with what it will be given.

    Raises:
        ConfigError: So it is; says in which line.
    """
    parameters = _PARAMETERS[name]
    wanted = f"async def {name}({', '.join(parameters)})"
    code = getattr(inspect.unwrap(function), "__code__", None)
    where = f"{path}, line {code.co_firstlineno}" if code else f"{path}"
    if not _is_async(function):
        is_stream = inspect.isasyncgenfunction(function)
        what = "yields, and must return instead" if is_stream else "is not async"
        raise ConfigError(f"{where}: {name} {what}: write '{wanted}'")
    signature = inspect.signature(function)
    try:
        signature.bind(*parameters)
    except TypeError as error:
        raise ConfigError(
            f"{where}: {name}{signature} cannot be called with "
            f"({', '.join(parameters)}): {error}; write '{wanted}'"
        ) from error
