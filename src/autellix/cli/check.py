"""``autellix config check``: says what a configuration file comes to.

In the file's own words, so that it can be copied from.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from autellix import config
from autellix.backends.vllm import VllmOptions
from autellix.backends.vllm.engine_args import ArgumentsRefused, check_arguments
from autellix.cli.exit_codes import ExitCode
from autellix.cli.progress import say
from autellix.cli.toml_text import plain_fields, toml_lines
from autellix.config.faults import Faults, Findings, joined
from autellix.errors import BackendUnavailable, ConfigError


def check(path: Path, *, as_json: bool) -> ExitCode:
    """Read and check a file, and that folders it names are there; load no engine.

    Arguments for vLLM are held against the vLLM that is here; where there is none, a
    line on standard error says that they were not checked. A file with faults is a
    ``ConfigError``.
    """
    settings = config.load(path)
    findings = Findings()
    for index, engine in enumerate(settings.engines):
        findings.of(_check_model, engine, f"engines[{index}].model")
        findings.of(_check_arguments, engine, f"engines[{index}]")
    try:
        findings.check()
    except Faults as found:
        raise found.together(f"in {path}") from None
    if as_json:
        print(json.dumps(_told(settings), indent=2))
    else:
        print(f"# {path}: good; with every default it reads")
        print(*toml_lines(_file(settings)), sep="\n")
    return ExitCode.OK


def _check_model(engine: config.EngineSettings, path: str) -> None:
    """Refuse a path to a model that is not there; other names may mean anything.

    A simulated engine only bears the name of a model.

    Raises:
        ConfigError: So it is.
    """
    model = getattr(engine.options, "model", None)
    if engine.backend == "simulated" or not isinstance(model, str):
        return
    is_path = model.startswith((".", "~", os.sep)) or model.count("/") > 1
    try:
        folder = Path(model).expanduser().absolute()
    except RuntimeError as error:  # nobody has that name
        raise ConfigError(f"{model!r} is no folder: {error}", path=path) from error
    if is_path and not folder.is_dir():
        raise ConfigError(f"{model!r} is no folder: there is no {folder}", path=path)


def _check_arguments(engine: config.EngineSettings, path: str) -> None:
    """Refuse arguments for vLLM that it does not have; to ask it takes seconds.

    Raises:
        Faults: There are some.
    """
    if not isinstance(engine.options, VllmOptions):
        return
    try:
        check_arguments(engine.options.engine_args)
    except ArgumentsRefused as error:
        faults = [
            ConfigError(fault.message, path=joined(path, fault.path))
            for fault in error.faults
        ]
        raise Faults(faults) from None
    except BackendUnavailable as error:
        say(f"{path}.engine_args: names were not checked, as {error}")


def _told(settings: config.Config) -> dict[str, Any]:
    """Return what JSON is made of; engines with the names they will have."""
    return {
        "policy": {"kind": settings.policy_kind, **plain_fields(settings.policy)},
        "balancer": {"kind": settings.balancer_kind, **plain_fields(settings.balancer)},
        "engines": [
            {
                "name": engine.name,
                "backend": engine.backend,
                "options": plain_fields(engine.options),
            }
            for engine in settings.engines
        ],
    }


def _file(settings: config.Config) -> dict[str, Any]:
    """Return the tables of a file that says all this, defaults included."""
    told = _told(settings)
    return {
        "runtime": {
            "shutdown_s": settings.shutdown_s,
            "policy": told["policy"],
            "balancer": told["balancer"],
        },
        "engines": [
            {"backend": engine["backend"], **engine["options"]}
            for engine in told["engines"]
        ],
    }
