"""``autellix config check``: says what a configuration file comes to."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from autellix import config
from autellix.cli.exit_codes import ExitCode


def check(path: Path, *, as_json: bool) -> ExitCode:
    """Read and check a file; load no engine."""
    settings = config.load(path)
    if as_json:
        print(
            json.dumps(
                {
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
                },
                default=str,
                indent=2,
            )
        )
        return ExitCode.OK
    print(f"{path}: good")
    print(f"policy: {settings.policy}")
    print(f"balancer: {settings.balancer}")
    for engine in settings.engines:
        print(f"engine {engine.name}: {engine.backend}, {engine.options}")
    return ExitCode.OK
