"""Costs from a file: what ``autellix calibrate`` measured on somebody's engine.

A file is TOML with a table ``[costs]``, the fields of ``CostModel``; whatever else
stands in it tells where they come from and is not looked at.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import attrs

from autellix.core.cost_model import CostModel

SUFFIX: Final = ".toml"
"""By this a file is told from the name of a preset."""


def read_preset(path: Path) -> CostModel:
    """Return the costs in a file.

    Args:
        path: Looked for from the working directory on.

    Raises:
        ValueError: It cannot be read, or tells no costs.
    """
    try:
        table = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except RuntimeError as error:  # of expanduser: nobody has that name
        raise ValueError(f"{path} cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    match table:
        case {"costs": dict() as costs}:
            return _costs_from(costs, path)
        case _:
            raise ValueError(f"{path} has no table [costs]: it is no file of costs")


def _costs_from(costs: dict[str, Any], path: Path) -> CostModel:
    """Return the costs of a table.

    Raises:
        ValueError: A key is unknown or missing, or a value no cost.
    """
    fields = {field.name: field for field in attrs.fields(CostModel)}
    for key, value in costs.items():
        if key not in fields:
            known = ", ".join(fields)
            raise ValueError(f"{path}: costs.{key}: unknown key; there are: {known}")
        if type(value) is not int:
            raise ValueError(f"{path}: costs.{key} must be an integer: {value!r}")
    for key, field in fields.items():
        if field.default is attrs.NOTHING and key not in costs:
            raise ValueError(f"{path}: costs.{key}: this key is needed")
    try:
        return CostModel(**costs)
    except ValueError as error:
        raise ValueError(f"{path}: costs: {error.args[0]}") from error
