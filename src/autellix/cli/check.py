"""``autellix config check``: says what a configuration file comes to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs

from autellix import config
from autellix.cli.exit_codes import ExitCode
from autellix.config.faults import Faults, Findings
from autellix.errors import ConfigError


def check(path: Path, *, as_json: bool) -> ExitCode:
    """Read and check a file, and that folders it names are there; load no engine.

    A file with faults is a ``ConfigError``.
    """
    settings = config.load(path)
    findings = Findings()
    for index, engine in enumerate(settings.engines):
        findings.of(_check_model, engine, f"engines[{index}].model")
    try:
        findings.check()
    except Faults as found:
        raise found.together(f"in {path}") from None
    if as_json:
        print(json.dumps(_told(settings), default=str, indent=2))
    else:
        print(f"{path}: good")
        print(*_lines(settings), sep="\n")
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
    folder = Path(model).expanduser().absolute()
    if is_path and not folder.is_dir():
        raise ConfigError(f"{model!r} is no folder: there is no {folder}", path=path)


def _told(settings: config.Config) -> dict[str, object]:
    """Return what JSON is made of."""
    return {
        "policy": repr(settings.policy),
        "balancer": repr(settings.balancer),
        "engines": [
            {
                "name": engine.name,
                "backend": engine.backend,
                "options": attrs.asdict(engine.options),
            }
            for engine in settings.engines
        ],
    }


def _lines(settings: config.Config) -> list[str]:
    """Return what is read: every option, defaults included."""
    lines = [f"policy: {settings.policy}", f"balancer: {settings.balancer}"]
    for engine in settings.engines:
        lines.append(f"engine {engine.name}: {engine.backend}")
        options = attrs.asdict(engine.options, recurse=False)
        lines += [f"  {name}: {value}" for name, value in options.items()]
    return lines
