"""What was learned of the sizes of programs: to be seen, saved and loaded.

Policies are pure, so a model that is to outlast an application passes through here:
``save_sizes(path, runtime.statistics().learned.model)`` before the end, and at the next
start ``Gittins(model=load_sizes(path))``.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from autellix.errors import SizeModelError
from autellix.policies.gittins import ClassSizes, IndexTable, SizeModel, Sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autellix.core.ranking import Ranking

SCHEMA: Final = "autellix-sizes/1"


def learned_by(ranking: Ranking) -> IndexTable | None:
    """Return what a ranking rests on, where it is a learned one."""
    return ranking if isinstance(ranking, IndexTable) else None


def save_sizes(path: Path | str, model: SizeModel) -> None:
    """Write a size model to a file; a file that was there is replaced at once or not.

    Sizes are in work, so they hold for engines of about the same speed.

    Raises:
        OSError: It cannot be written.
    """
    value = sizes_to_json(model)
    partial = Path(f"{path}.partial")
    try:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
        partial.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # what the caller knows
        raise


def load_sizes(path: Path | str) -> SizeModel:
    """Read a size model; ``OSError`` where there is no such file.

    Raises:
        SizeModelError: The file is damaged, or is something else.
    """
    try:
        value = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise SizeModelError(f"no JSON: {error}", file=str(path)) from error
    try:
        return sizes_from_json(value)
    except ValueError as error:
        raise SizeModelError(str(error), file=str(path)) from error


def sizes_to_json(model: SizeModel) -> dict[str, Any]:
    """Return a size model as plain values: what stands in its file."""
    return {
        "schema": SCHEMA,
        "classes": {name: _to_json(sizes) for name, sizes in model.classes.items()},
        "shared": _to_json(model.shared),
    }


def sizes_from_json(value: Any) -> SizeModel:
    """Return the size model that ``sizes_to_json`` made plain.

    Raises:
        ValueError: It is none; says what is wrong, and where.
    """
    try:
        return _model(value)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _to_json(sizes: ClassSizes) -> Mapping[str, Any]:
    return {
        "ended": [[each.size_s, each.weight] for each in sizes.ended],
        "running": [[each.size_s, each.weight] for each in sizes.running],
    }


def _model(value: Any) -> SizeModel:
    found = value.get("schema") if isinstance(value, dict) else None
    if found != SCHEMA:
        raise ValueError(f"schema {found!r} is unknown; known: {SCHEMA!r}")
    _check_keys(value, "the file", {"schema", "classes", "shared"})
    classes = value["classes"]
    if not isinstance(classes, dict):
        raise TypeError(f"classes must be an object: {classes!r}")
    return SizeModel(
        classes={
            name: _sizes(each, f"class {name!r}") for name, each in classes.items()
        },
        shared=_sizes(value["shared"], "shared"),
    )


def _sizes(value: Any, where: str) -> ClassSizes:
    _check_keys(value, where, {"ended", "running"})
    return ClassSizes(
        ended=_pairs(value["ended"], f"{where}: ended"),
        running=_pairs(value["running"], f"{where}: running"),
    )


def _pairs(value: Any, where: str) -> list[Sizes]:
    if not isinstance(value, list):
        raise TypeError(f"{where} must be a list: {value!r}")
    pairs = [_pair(pair, where) for pair in value]
    for before, after in pairwise(pairs):
        if after.size_s <= before.size_s:
            sizes = f"{before.size_s!r}, {after.size_s!r}"
            raise ValueError(f"{where}: sizes must rise: {sizes}")
    return pairs


def _pair(value: Any, where: str) -> Sizes:
    match value:
        case [size, weight] if _is_finite(size) and _is_finite(weight):
            try:
                return Sizes(float(size), float(weight))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        case _:
            raise ValueError(f"{where}: not a size and a weight: {value!r:.80}")


def _is_finite(value: Any) -> bool:
    try:
        return type(value) in {int, float} and math.isfinite(value)
    except OverflowError:  # of an integer that no float holds
        return False


def _check_keys(value: Any, where: str, keys: set[str]) -> None:
    if not isinstance(value, dict) or value.keys() != keys:
        wanted = ", ".join(sorted(keys))
        raise ValueError(f"{where} must be an object of {wanted}: {value!r:.80}")
